"""From parameters with bounds to coordinates on the whole line with mean 0 and variance 1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .regions import Box, Regions


class ParameterTransform(nn.Module):
    """u = (g(theta) - loc) / scale.

    g maps the region of the parameters to the whole line, see `Regions`, so no density can leak out
    of it. ``loc`` and ``scale`` are learned from the training draws (`learn`). Computed in float64.

    Args:
        low: lower bounds (D,), -inf where there are none; or `Regions`, without ``high``.
        high: upper bounds (D,).
        dtype: of the parameters: draws are rounded to it.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, low: Tensor | Regions, high: Any = None, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.region = low if isinstance(low, Regions) else Regions([Box(low, high)])
        self.dtype = dtype
        self.region.widened(dtype)
        self.register_buffer("loc", torch.zeros(self.region.free, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(self.region.free, dtype=torch.float64))

    def learn(self, theta: Tensor) -> None:
        """Set ``loc`` and ``scale`` to the mean and standard deviation of g over theta (N, D)."""
        theta = theta.double()
        self.region.learn(theta)
        v, _ = self.region.to_line(theta)
        self.loc.copy_(v.mean(0))
        self.scale.copy_(v.std(0).clamp_min(1e-300))

    def forward(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """theta (B, D) -> u (B, free) float32, log|det du/dtheta| (B,) float32.

        Outside the region the log-determinant is -inf.
        """
        theta = theta.double()
        inside = (self.region.inside(theta) & theta.isfinite()).all(1)
        v, log_det = self.region.to_line(theta)
        log_det = torch.where(inside, log_det - self.scale.log().sum(), -math.inf)
        return ((v - self.loc) / self.scale).float(), log_det.float()

    def log_det_at(self, u: Tensor) -> Tensor:
        """log|det du/dtheta| (B,) at the image u (B, free) of theta."""
        v = u.double() * self.scale + self.loc
        return (self.region.log_det_at(v) - self.scale.log().sum()).float()

    def inverse(self, u: Tensor) -> Tensor:
        """u (B, free) -> theta (B, D) of ``dtype``, inside the region, also after rounding."""
        return self.region.from_line(u.double() * self.scale + self.loc, self.dtype)
