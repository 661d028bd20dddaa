"""A small U-Net: from an image and a vector to an image of the same size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conditioning import FiLM, zeroed
from .precision import ConditionerNet


class _Residual(nn.Module):
    """h + two 3x3 convolutions, with the condition as FiLM between them."""

    def __init__(self, n_in: int, n_out: int, condition: int):
        super().__init__()
        self.norms = nn.ModuleList((_group_norm(n_in), _group_norm(n_out)))
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.film = FiLM(condition, n_out)
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        new = self.first(F.silu(self.norms[0](h)))
        new = self.second(F.silu(self.film(self.norms[1](new), c)))
        return self.skip(h) + new


class UNet(ConditionerNet):
    """Residual blocks at ``levels`` resolutions, wider by ``hidden`` at each (Ho et al. 2020).

    (B, n_in, H, W) and a vector condition (B, condition) -> (B, n_out, H, W), zero at the start.
    Any H and W: odd sides are rounded up on the way down and cropped on the way up.

    Raises:
        ShapeError: x or c of another shape.

    Example:
        >>> net = UNet(1, 1, hidden=8, condition=2)
        >>> net(torch.rand(5, 1, 16, 16), torch.rand(5, 2)).shape
        torch.Size([5, 1, 16, 16])
    """

    axes = (4,)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        hidden: int = 32,
        levels: int = 2,
        *,
        condition: int,
    ):
        super().__init__()
        self.n_in, self.condition, self.how = n_in, condition, "film"
        widths = [hidden * (k + 1) for k in range(levels)]
        self.first = nn.Conv2d(n_in, hidden, 3, padding=1)
        pairs = [*zip([hidden, *widths], widths)]
        self.down = nn.ModuleList(_Residual(a, b, condition) for a, b in pairs)
        self.middle = _Residual(widths[-1], widths[-1], condition)
        self.up = nn.ModuleList(_Residual(2 * b, a, condition) for a, b in pairs)
        self.norm = _group_norm(hidden)
        self.last = zeroed(nn.Conv2d(hidden, n_out, 3, padding=1))

    def compute(self, x: Tensor, c: Tensor) -> Tensor:
        h, kept = self.first(x), []
        for block in self.down:
            h = block(h, c)
            kept.append(h)
            h = F.avg_pool2d(h, 2, ceil_mode=True)
        h = self.middle(h, c)
        for block, skip in zip(reversed(self.up), reversed(kept)):
            h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            h = block(torch.cat((h[..., : skip.shape[-2], : skip.shape[-1]], skip), 1), c)
        return self.last(F.silu(self.norm(h)))


def _group_norm(channels: int) -> nn.GroupNorm:
    """Groups of four channels at least, so that none is constant where the image is small."""
    fits = (g for g in (8, 4, 2, 1) if channels % g == 0 and channels // g >= min(4, channels))
    return nn.GroupNorm(next(fits), channels)
