"""Numbers of an image as a small picture of bounded size."""

from __future__ import annotations

import PIL.Image
import torch
from torch import Tensor

from ..data.image_io import to_pil
from ..report.heat import Heat
from .card import number

SIDE = 192  # pixels: what is longer is made smaller
_SLACK = 0.25  # beyond [0, 1], within which numbers count as those of a picture


def picture_of(image: Tensor) -> tuple[PIL.Image.Image, str]:
    """(picture, what its colours mean where that is not [0, 1]) of numbers (C, H, W) or (H, W).

    Complex numbers are shown by their magnitude; of other than 1 or 3 channels the root mean square.
    """
    x, said = small(image), []
    if x.shape[0] not in (1, 3):
        said.append(f"root mean square of {x.shape[0]} channels")
        x = x.square().mean(0, keepdim=True).sqrt()
    finite = x[x.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)
    if low < -_SLACK or high > 1 + _SLACK:
        said.append(f"from {number(low)} to {number(high)}")
        x = (x - low) / (high - low or 1.0)
    return to_pil(x.nan_to_num(0.0, 1.0, 0.0)), ", ".join(said)


def map_of(values: Tensor, high: float) -> Heat:
    """Numbers >= 0 in colours, which end at ``high``."""
    return Heat(small(values), high)


def small(image: Tensor) -> Tensor:
    """(C, h, w) in float64, no side above `SIDE`: means of the pixels that fall together."""
    x = image.detach().cpu()
    x = (x.abs() if x.is_complex() else x).double()
    x = x.reshape(-1, *x.shape[-2:])
    height, width = x.shape[-2:]
    if max(height, width) <= SIDE:
        return x
    scale = SIDE / max(height, width)
    size = [max(1, round(n * scale)) for n in (height, width)]
    return torch.nn.functional.interpolate(x[None], size, mode="area")[0]
