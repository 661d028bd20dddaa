"""Noise-conditional flows: p(x; sigma), the density of clean images plus N(0, sigma^2) noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError


class NoiseLevel(nn.Module):
    """The condition a noise level gives to every layer: log(sigma), scaled to about (-1, 1).

    sigma (B,), (B, 1) or a float, on the [0, 1] scale of images, within ``[low, high]``.
    """

    def __init__(self, low: float, high: float):
        super().__init__()
        if not 0 < low < high:
            raise InputError(f"noise range [{low}, {high}]: needs 0 < low < high")
        self.low, self.high = float(low), float(high)

    def forward(self, sigma: Tensor) -> Tensor:
        middle = 0.5 * (torch.tensor(self.low).log() + torch.tensor(self.high).log())
        half = 0.5 * (torch.tensor(self.high).log() - torch.tensor(self.low).log())
        return (sigma.reshape(len(sigma), 1).log() - middle) / half

    def check(self, sigma: Tensor) -> None:
        if bool((sigma < 0.999 * self.low).any() | (sigma > 1.001 * self.high).any()):
            raise InputError(
                f"noise level {float(sigma.min()):.4g}..{float(sigma.max()):.4g} lies outside "
                f"[{self.low:g}, {self.high:g}], the range this flow was trained on"
            )
