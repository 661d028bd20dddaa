"""The layout of images in memory: 4-D convolutions run about twice as fast, channels innermost."""

from __future__ import annotations

import torch
from torch import Tensor

from ..torch_private import transforms_active


def channels_last(t: Tensor) -> Tensor:
    """Images (B, C, H, W) or kernels with the channels innermost; ``t`` itself if they are already."""
    return t if _has_none() else t.contiguous(memory_format=torch.channels_last)


def is_channels_last(t: Tensor) -> bool:
    """Whether the channels of images (B, C, H, W) are innermost."""
    return not _has_none() and t.is_contiguous(memory_format=torch.channels_last)


def _has_none() -> bool:
    return not torch.compiler.is_compiling() and transforms_active()
