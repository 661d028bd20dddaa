"""Images of any size for flows that halve the resolution: reflect-pad, and crop back."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Extend (B, C, H, W) below and to the right until H and W are multiples of ``multiple``."""
    h, w = x.shape[-2:]
    return pad_image(x, 0, round_up(h, multiple) - h, 0, round_up(w, multiple) - w)


def pad_image(x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Reflect at the border; where the image is too small for that, repeat its edge."""
    if not (top or bottom or left or right):
        return x
    h, w = x.shape[-2:]
    mode = "reflect" if max(top, bottom) < h and max(left, right) < w else "replicate"
    return F.pad(x, (left, right, top, bottom), mode=mode)
