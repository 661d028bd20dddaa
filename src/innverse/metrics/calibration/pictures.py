"""What of an image is judged besides its pixels: means of patches, coefficients of wavelets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ShapeError


def patches(images: Tensor, size: int = 4) -> Tensor:
    """The means of patches of size x size: images (N, C, H, W) -> (N, K).

    Example:
        >>> from innverse.metrics.calibration import patches
        >>> patches(torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 4])
    """
    if not 1 <= size <= min(_checked(images).shape[-2:]):
        raise ShapeError(f"patches of {size} pixels do not fit images {tuple(images.shape)}")
    return F.avg_pool2d(images, size).flatten(1)


def haar(images: Tensor, levels: int = 3) -> Tensor:
    """Orthonormal Haar coefficients, (N, C, H, W) -> (N, C H W): the mean of the coarsest squares
    first, then details from coarse to fine. Sides must be even at each level; fewer are taken where
    they are not.

    Example:
        >>> from innverse.metrics.calibration import haar
        >>> x = torch.rand(2, 1, 8, 8)
        >>> torch.allclose(haar(x).square().sum(1), x.square().sum((1, 2, 3)))
        True
    """
    mean, details = _checked(images), []
    for _ in range(levels):
        if mean.shape[-1] % 2 or mean.shape[-2] % 2:
            break
        top, bottom = mean[..., ::2, :], mean[..., 1::2, :]
        parts = [top + bottom, top - bottom]
        both = [f(p[..., ::2], p[..., 1::2]) for p in parts for f in (torch.add, torch.sub)]
        mean, *rest = (b / 2 for b in both)
        details = [*(d.flatten(1) for d in rest), *details]
    return torch.cat([mean.flatten(1), *details], 1)


def _checked(images: Tensor) -> Tensor:
    if images.dim() != 4:
        raise ShapeError(f"images must be (N, C, H, W), got {tuple(images.shape)}")
    return images
