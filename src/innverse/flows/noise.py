"""Noise-conditional flows: p(x; sigma), the density of clean images plus N(0, sigma^2) noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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

    def check(self, sigma: Tensor) -> None:
        if bool((sigma < 0.999 * self.low).any() | (sigma > 1.001 * self.high).any()):
            raise InputError(
                f"noise level {float(sigma.min()):.4g}..{float(sigma.max()):.4g} lies outside "
                f"[{self.low:g}, {self.high:g}], the range this flow was trained on"
            )
