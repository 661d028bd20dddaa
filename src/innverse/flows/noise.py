"""Noise-conditional flows: p(x; sigma), the density of clean images plus N(0, sigma^2) noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..accelerate import handwritten
from ..accelerate.constant import inputs_vary
from ..device import runs_ahead
from ..errors import InputError


class NoiseLevel(nn.Module):
    """The condition a noise level gives to every layer: a learned function of log(sigma).

    sigma (B,), (B, 1) on the [0, 1] scale of images, within ``[low, high]``, to (B, width).
    """

    def __init__(self, low: float, high: float, width: int = 32):
        super().__init__()
        if not 0 < low < high:
            raise InputError(f"noise range [{low}, {high}]: needs 0 < low < high")
        self.low, self.high = float(low), float(high)
        self.net = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, sigma: Tensor) -> Tensor:
        middle = 0.5 * math.log(self.low * self.high)
        half = 0.5 * math.log(self.high / self.low)
        t = (sigma.reshape(len(sigma), 1).log() - middle) / half  # in [-1, 1]
        return self.net(torch.cat((t, (3 * t).sin(), (3 * t).cos()), 1))

    def embedding(self, sigma: Tensor, count: int) -> Tensor:
        """Of levels (count,), or one for all (1,), that are `checked`: (count, width)."""
        c = self(self.checked(sigma))
        return c.expand(count, -1) if len(c) != count else c

    def check(self, sigma: Tensor) -> None:
        """Raise InputError unless all levels lie in the range."""
        if sigma.numel() and not bool(self._knows(sigma).all()):  # NaN fails too
            raise InputError(
                f"noise level {float(sigma.min()):.4g}..{float(sigma.max()):.4g} lies outside "
                f"[{self.low:g}, {self.high:g}], the range this flow was trained on"
            )

    def checked(self, sigma: Tensor) -> Tensor:
        """sigma, if all levels lie in the range.

        Where asking would stop a graph or a GPU, levels outside become NaN instead, and so does
        what is made of them.
        """
        if not (runs_ahead(sigma.device) or inputs_vary()) and handwritten.applies():
            self.check(sigma)
            return sigma
        return torch.where(self._knows(sigma), sigma, torch.nan)

    def _knows(self, sigma: Tensor) -> Tensor:
        return (sigma >= 0.999 * self.low) & (sigma <= 1.001 * self.high)
