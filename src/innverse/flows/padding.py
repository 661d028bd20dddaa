"""Images of any size for flows that halve the resolution: reflect-pad, and crop back.

A condition that is a map is padded with the image it belongs to.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeError
from ..nets.conditioning import resampled

Size = tuple[int, int]


def size_of(x: Tensor) -> Size:
    """Height and width of images or maps (B, C, H, W)."""
    height, width = x.shape[-2:]
    return height, width


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def padded_size(size: Size, multiple: int) -> Size:
    """Height and width rounded up to multiples of ``multiple``."""
    return round_up(size[0], multiple), round_up(size[1], multiple)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Extend (B, C, H, W) below and to the right until H and W are multiples of ``multiple``."""
    h, w = size_of(x)
    return pad_image(x, 0, round_up(h, multiple) - h, 0, round_up(w, multiple) - w)


def pad_map(c: Tensor | None, size: Size, multiple: int) -> Tensor | None:
    """The condition of an image of this (H, W), for that image padded to ``multiple``.

    A map (B, k, h, w) of another resolution is brought to that of the image first; where the image
    needs no padding, and for vectors, c stays as it is.
    """
    if c is None or c.dim() != 4 or padded_size(size, multiple) == tuple(size):
        return c
    return pad_to_multiple(resampled(c, size), multiple)


def pad_map_of_latent(c: Tensor | None, size: Size, multiple: int) -> Tensor | None:
    """The same for a latent of this (H, W), if c is as large as an image that is padded to it.

    Raises:
        ShapeError: c has another resolution, and fits a padded image only.
    """
    if c is None or c.dim() != 4:
        return c
    given = size_of(c)
    if is_before_padding(given, size, multiple):
        return pad_to_multiple(c, multiple)
    for times in range(2, max(given) + 1):
        image = given[0] // times, given[1] // times
        whole = not (given[0] % times or given[1] % times)
        if whole and is_before_padding(image, size, multiple):
            raise ShapeError(
                f"the map c of {given} fits a picture of {image} that is padded to {tuple(size)}: "
                f"say size={image}"
            )
    return c


def is_before_padding(given: Size, size: Size, multiple: int) -> bool:
    """Whether an image of ``given`` height and width is padded to ``size``."""
    return tuple(given) != tuple(size) == padded_size(given, multiple)


def pad_image(x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Reflect at the border; where the image is too small for that, repeat its edge."""
    if not (top or bottom or left or right):
        return x
    h, w = x.shape[-2:]
    mode = "reflect" if max(top, bottom) < h and max(left, right) < w else "replicate"
    return F.pad(x, (left, right, top, bottom), mode=mode)
