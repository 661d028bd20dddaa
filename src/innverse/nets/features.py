"""What couplings at half the resolution need to know of a map at the full one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShapeError
from ..models.parts import Part
from .conv import ConvResNet


class MapFeatures(Part, nn.Module):
    """Features (B, features, H, W) of a map (B, k, H, W), the same in each block of 2x2 pixels.

    A coupling behind a squeeze averages a map down to its own resolution, and an average no longer
    tells which pixel of a block was measured. Here the four become channels first, and a residual
    network makes of them what the couplings are told.

    Example:
        >>> MapFeatures(3, 8)(torch.rand(2, 3, 10, 9)).shape
        torch.Size([2, 8, 10, 9])
    """

    def __init__(self, k: int, features: int, hidden: int = 64, blocks: int = 2):
        super().__init__()
        self.net = ConvResNet(4 * k, features, hidden, blocks)

    def forward(self, c: Tensor) -> Tensor:
        if c.dim() != 4:
            raise ShapeError(f"the condition of this flow is a map (B, k, H, W), got {(*c.shape,)}")
        height, width = c.shape[2:]
        even = F.pad(c, (0, width % 2, 0, height % 2), mode="replicate")
        made = F.interpolate(self.net(F.pixel_unshuffle(even, 2)), scale_factor=2.0)
        return made[..., :height, :width]
