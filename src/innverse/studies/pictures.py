"""The photographs and faces inside scikit-image, and how they are cut: nothing is downloaded."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import open_images
from ..errors import InnverseError


def photograph(name: str, channels: int) -> Tensor:
    """(C, H, W) on [0, 1]."""
    return open_images("skimage", subset=name, channels=channels)[0].float() / 255


def small_faces() -> Tensor:
    """The gray faces of 25x25 pixels: (100, 1, 25, 25) on [0, 1].

    Raises:
        InnverseError: scikit-image is not installed.
    """
    try:
        import skimage.data
    except ImportError:
        raise InnverseError(
            'test images need scikit-image: pip install "innverse[demo]", or give --test'
        ) from None
    return torch.tensor(skimage.data.lfw_subset()[:100]).float().unsqueeze(1)  # others: no faces


def crop(picture: Tensor, region: tuple[int, int, int, int], side: int) -> Tensor:
    """The region top, left, height, width of (C, H, W), as (C, side, side): averaged down, or a
    smaller square enlarged."""
    top, left, height, width = region
    part = picture[None, :, top : top + height, left : left + width]
    if min(height, width) >= side:
        return F.adaptive_avg_pool2d(part, side)[0]
    return F.interpolate(part, (side, side), mode="bicubic", align_corners=False)[0].clamp(0, 1)
