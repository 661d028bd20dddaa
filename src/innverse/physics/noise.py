"""Noise models: ``noise(y, generator)`` draws, ``noise.sigma`` tells a solver the level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import UsageError


def randn(shape, *, dtype, device, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal numbers, drawn on the generator's device and then moved.

    The same seed therefore gives the same noise on every device.
    """
    source = generator.device if generator is not None else device
    return torch.randn(shape, dtype=dtype, device=source, generator=generator).to(device)


class NoNoise(nn.Module):
    """y = Ax exactly."""

    sigma = None

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return y

    def level(self, y: Tensor) -> Tensor:
        """Standard deviation of the noise in each item, (B,): zero."""
        return y.new_zeros(y.shape[0])

    def select(self, idx: Tensor) -> NoNoise:
        return self


class GaussianNoise(nn.Module):
    """y = Ax + sigma * N(0, I).

    Args:
        sigma: standard deviation on the scale of the measurement, >= 0; one number or (B,).
    """

    def __init__(self, sigma: float | Tensor):
        super().__init__()
        level = torch.as_tensor(sigma, dtype=torch.float64).detach()
        if level.ndim > 1 or not bool((level >= 0).all()):
            raise UsageError(f"noise sigma must be >= 0, one number or one per item, got {sigma!r}")
        if level.ndim == 0:
            self.sigma = float(level)
        else:
            self.register_buffer("sigma", level.float())

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = randn(y.shape, dtype=y.dtype, device=y.device, generator=generator)
        level = self.level(y)
        return y + level.reshape(-1, *[1] * (y.ndim - 1)) * noise

    def level(self, y: Tensor) -> Tensor:
        """Standard deviation of the noise in each item, (B,)."""
        return torch.as_tensor(self.sigma, dtype=y.dtype, device=y.device).expand(y.shape[0])

    def select(self, idx: Tensor) -> GaussianNoise:
        return GaussianNoise(self.sigma[idx]) if isinstance(self.sigma, Tensor) else self

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}"


class PoissonNoise(nn.Module):
    """y = gain * Poisson(Ax / gain): photon counting, ``1 / gain`` photons at intensity 1.

    Negative entries of Ax (rounding, ringing) count as zero photons.

    Args:
        gain: intensity of one photon, > 0.
    """

    def __init__(self, gain: float):
        super().__init__()
        self.gain = float(gain)
        if not self.gain > 0 or math.isinf(self.gain):
            raise UsageError(f"Poisson gain must be a positive number, got {gain!r}")

    @property
    def sigma(self) -> float:
        """Standard deviation at mid-grey (intensity 0.5), for solvers that want one number."""
        return math.sqrt(0.5 * self.gain)

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        rate = y.detach().clamp_min(0) / self.gain
        source = generator.device if generator is not None else y.device
        return self.gain * torch.poisson(rate.to(source), generator=generator).to(y)

    def level(self, y: Tensor) -> Tensor:
        """Root-mean-square standard deviation in each item, estimated from y, (B,)."""
        return (self.gain * y.flatten(1).mean(1).clamp_min(0)).sqrt()

    def select(self, idx: Tensor) -> PoissonNoise:
        return self

    def extra_repr(self) -> str:
        return f"gain={self.gain}"


def as_noise(noise) -> nn.Module:
    """None -> NoNoise, a number or (B,) tensor -> GaussianNoise, a noise model -> itself."""
    if noise is None:
        return NoNoise()
    if isinstance(noise, nn.Module):
        return noise
    if isinstance(noise, (int, float, Tensor)):
        return GaussianNoise(noise)
    raise UsageError(f"noise must be None, a sigma or a noise model, got {type(noise).__name__}")
