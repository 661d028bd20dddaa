"""Noise of line integrals that were measured by the photons that came through."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .noise import NoiseModel, _positive


class TransmissionNoise(NoiseModel):
    """y = -log(N / photons) / attenuation with N ~ Poisson(photons exp(-attenuation A x)).

    A ray that nothing came through counts as one photon, so that its logarithm exists. The deviation is
    1 / (attenuation sqrt(N)) (Buzug 2008, Computed Tomography, chapter 4).

    Args:
        photons: on each ray without an object, > 0.
        attenuation: of a line integral of 1, > 0; 1 where A x is the exponent itself.

    Example:
        >>> y = TransmissionNoise(1e4)(torch.full((1, 1, 64, 64), 2.0))
        >>> round(float(y.mean()), 2), round(float(y.std()), 2)  # 1 / sqrt(1e4 exp(-2)) = 0.027
        (2.0, 0.03)
    """

    depends_on_signal = True

    def __init__(self, photons: float, attenuation: float = 1.0):
        super().__init__()
        self.photons = _positive(photons, "number of photons")
        self.attenuation = _positive(attenuation, "attenuation")
        self.sigma = 1 / (self.attenuation * math.sqrt(self.photons))  # where nothing is in the way

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        rate = self._expected(y.detach())
        source = generator.device if generator is not None else y.device
        counts = torch.poisson(rate.to(source), generator=generator).to(y)
        return -(counts.clamp_min(1) / self.photons).log() / self.attenuation

    def std(self, clean: Tensor) -> Tensor:
        return 1 / (self.attenuation * self._expected(clean).clamp_min(1).sqrt())

    def _expected(self, clean: Tensor) -> Tensor:
        return self.photons * (-self.attenuation * clean.clamp_min(0)).exp()

    def extra_repr(self) -> str:
        return f"photons={self.photons:g}, attenuation={self.attenuation:g}"
