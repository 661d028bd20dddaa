"""The training images nearest to a sample: whether a model invents or remembers."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError, ShapeError


def nearest(x: Tensor, images: Tensor, k: int = 1, *, chunk: int = 2048) -> tuple[Tensor, Tensor]:
    """The ``k`` images nearest to each of ``x``, by root mean square difference of pixels.

    Args:
        x: (B, ...) float in [0, 1].
        images: (N, ...) of the same item shape, uint8 or float in [0, 1]; ``chunk`` of them are
            looked at in one matrix product, so N may be large.

    Returns:
        (distances, indices), each (B, k), nearest first; distances in units of the pixels, 0 to 1.

    Raises:
        ShapeError: items of different shape. InputError: k outside 1 .. N.

    Example:
        >>> images = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> distance, which = nearest(torch.tensor([[0.9, 1.0]]), images)
        >>> which
        tensor([[1]])
    """
    if x.shape[1:] != images.shape[1:]:
        raise ShapeError(
            f"samples of {tuple(x.shape[1:])} cannot be compared with images of "
            f"{tuple(images.shape[1:])}"
        )
    if not 1 <= k <= len(images):
        raise InputError(f"k={k}: choose 1 to {len(images)}, the number of images")
    flat = x.flatten(1).float() - 0.5  # about the middle, so that the squares cancel less
    best = flat.new_empty(len(flat), 0)
    index = torch.empty(len(flat), 0, dtype=torch.long)
    for first in range(0, len(images), chunk):
        part = _values(images[first : first + chunk]).flatten(1) - 0.5
        squares = flat.square().sum(1, keepdim=True) + part.square().sum(1) - 2 * flat @ part.T
        best = torch.cat((best, squares), 1)
        index = torch.cat((index, torch.arange(first, first + len(part)).expand(len(flat), -1)), 1)
        best, order = best.topk(min(k, best.shape[1]), largest=False)
        index = index.gather(1, order)
    # again from the differences of the few that are left, free of cancellation
    found = _values(images[index.flatten()]).view(*index.shape, -1) - 0.5
    distance = (found - flat.unsqueeze(1)).square().mean(2).sqrt()
    distance, order = distance.sort(1)
    return distance, index.gather(1, order)


def _values(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
