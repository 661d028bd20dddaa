"""Noise models: ``noise(y, generator)`` draws, ``noise.std(Ax)`` tells the level of each value."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ShapeError, UsageError
from ..shapes import tensor_of, wide


def randn(shape, *, dtype, device, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal numbers, drawn on the generator's device and then moved.

    The same seed therefore gives the same noise on every device. Of complex numbers each part is
    standard normal.
    """
    source = generator.device if generator is not None else device
    if dtype.is_complex:
        parts = torch.randn((*shape, 2), dtype=dtype.to_real(), device=source, generator=generator)
        return torch.view_as_complex(parts).to(device)
    return torch.randn(shape, dtype=dtype, device=source, generator=generator).to(device)


class NoiseModel(nn.Module):
    """Independent noise of mean zero on every value of a measurement.

    Attributes:
        sigma: the standard deviation, one number, (B,) or a map; None without noise.
        depends_on_signal: whether `std` depends on the noiseless measurement.
    """

    sigma: float | Tensor | None
    depends_on_signal = False

    def std(self, clean: Tensor) -> Tensor:
        """Standard deviation of every value, given the noiseless measurement; broadcasts to it."""
        raise NotImplementedError

    def level(self, y: Tensor) -> Tensor:
        """Root-mean-square standard deviation in each item of the measurement y, (B,)."""
        std = self.std(y)
        if std[0].numel() == 1:
            return std.reshape(-1).expand(y.shape[0])
        return std.expand(y.shape).flatten(1).square().mean(1).sqrt()

    def select(self, idx: Tensor) -> NoiseModel:
        """The noise of the items idx of a batch."""
        return self

    def with_level(self, noise: NoiseModel) -> NoiseModel:
        """What is left of this noise where ``noise`` is given: nothing, but of a rounding."""
        return noise


class NoNoise(NoiseModel):
    """y = Ax exactly.

    Example:
        >>> y = torch.rand(1, 4)
        >>> torch.equal(NoNoise()(y), y)
        True
    """

    sigma = None

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return y

    def std(self, clean: Tensor) -> Tensor:
        return clean.real.new_zeros([1] * clean.ndim)


class GaussianNoise(NoiseModel):
    """y = Ax + sigma * N(0, I); of complex measurements each part has the deviation sigma.

    Args:
        sigma: standard deviation on the scale of the measurement, >= 0: one number, one per item
            (B,), or a map that broadcasts against the measurement, such as (B, 1, H, W) or
            (H, W). In a map, Inf marks values that were not measured.
        per_item: whether the first axis of a map is that of the items; by default that of four axes is.

    Example:
        >>> y = GaussianNoise(0.1)(torch.zeros(1, 1, 64, 64))
        >>> round(float(y.std()), 1)
        0.1
    """

    def __init__(self, sigma: float | Tensor, per_item: bool | None = None):
        super().__init__()
        level = tensor_of(sigma, "noise sigma must be a number or a tensor", torch.float64)
        if not bool((level >= 0).all()) or level.numel() == 0:
            raise UsageError(
                f"noise sigma must be >= 0, one number, one per item or a map, got {_short(sigma)}"
            )
        if level.ndim < 2 and bool(level.isinf().any()):
            raise UsageError("noise sigma is infinite: give a finite number")
        self.per_item = level.ndim in (1, 4) if per_item is None else per_item
        if level.ndim == 0:
            self.sigma = float(level)
        else:
            self.register_buffer("sigma", level)

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = randn(y.shape, dtype=y.dtype, device=y.device, generator=generator)
        std = self.std(y)
        if not self.is_map:
            return y + std * noise
        return torch.where(std.isinf(), 0, y + std * noise)  # what was not measured

    def std(self, clean: Tensor) -> Tensor:
        value = torch.as_tensor(self.sigma, dtype=clean.real.dtype, device=clean.device)
        if value.ndim == 0:
            return value.expand([1] * clean.ndim)
        if value.ndim == 1 and value.numel() in (1, clean.shape[0]):
            return wide(value, clean)
        try:
            fits = torch.broadcast_shapes(value.shape, clean.shape) == clean.shape
        except RuntimeError:
            fits = False
        if not fits or (value.ndim == 1 and clean.ndim != 2):
            raise ShapeError(
                f"a noise level of shape {tuple(value.shape)} does not fit measurements "
                f"{tuple(clean.shape)}: give one number, one per item ({clean.shape[0]},), or a map"
            )
        return value.reshape(*[1] * (clean.ndim - value.ndim), *value.shape)

    def select(self, idx: Tensor) -> GaussianNoise:
        each = isinstance(self.sigma, Tensor) and len(self.sigma) > 1 and self.per_item
        return GaussianNoise(self.sigma[idx], True) if each else self

    def of(self, y: Tensor) -> GaussianNoise:
        """The same noise, a map with the axes of the measurement y."""
        return GaussianNoise(self.std(y), True) if self.is_map else self

    @property
    def is_map(self) -> bool:
        return isinstance(self.sigma, Tensor) and self.sigma.ndim > 1

    def extra_repr(self) -> str:
        return f"sigma={_short(self.sigma)}"


class PoissonNoise(NoiseModel):
    """y = gain * Poisson(Ax / gain): photon counting, ``1 / gain`` photons at intensity 1.

    The variance is gain * Ax. Negative entries of Ax (rounding, ringing) count as zero photons.

    Args:
        gain: intensity of one photon, > 0.

    Example:
        >>> y = PoissonNoise(gain=0.01)(torch.full((1, 1, 64, 64), 0.5))  # a count is worth 0.01
        >>> round(float(y.std()), 2)  # the square root of gain times mean
        0.07
    """

    depends_on_signal = True

    def __init__(self, gain: float | Tensor):
        super().__init__()
        self.gain = _positive(gain, "Poisson gain")
        # at mid-grey (intensity 0.5), for those that want one number
        self.sigma = math.sqrt(0.5 * self.gain)

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        rate = y.detach().clamp_min(0) / self.gain
        source = generator.device if generator is not None else y.device
        return self.gain * torch.poisson(rate.to(source), generator=generator).to(y)

    def std(self, clean: Tensor) -> Tensor:
        return (self.gain * clean.clamp_min(0)).sqrt()

    def level(self, y: Tensor) -> Tensor:
        """Root-mean-square standard deviation in each item, estimated from y, (B,)."""
        return (self.gain * y.flatten(1).mean(1).clamp_min(0)).sqrt()

    def extra_repr(self) -> str:
        return f"gain={self.gain}"


class PoissonGaussianNoise(PoissonNoise):
    """Photon noise and then Gaussian noise of the electronics: variance gain * Ax + sigma^2.

    Args:
        gain: intensity of one photon, > 0.
        sigma: standard deviation of the Gaussian part, >= 0.

    Example:
        >>> y = PoissonGaussianNoise(gain=0.01, sigma=0.02)(torch.full((1, 1, 64, 64), 0.5))
        >>> round(float(y.mean()), 1)
        0.5
    """

    def __init__(self, gain: float | Tensor, sigma: float | Tensor):
        super().__init__(gain)
        self.read, self.read_sigma = GaussianNoise(float(sigma)), float(sigma)
        self.sigma = math.hypot(math.sqrt(0.5 * self.gain), self.read_sigma)

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.read(super().forward(y, generator), generator)

    def std(self, clean: Tensor) -> Tensor:
        return (self.gain * clean.clamp_min(0) + self.read_sigma**2).sqrt()

    def level(self, y: Tensor) -> Tensor:
        return (super().level(y).square() + self.read_sigma**2).sqrt()

    def extra_repr(self) -> str:
        return f"gain={self.gain}, sigma={self.read_sigma}"


def _positive(value, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not 0 < number < math.inf:
        raise UsageError(f"{name} must be a positive number, got {_short(value)}")
    return number


def _short(value) -> str:
    if isinstance(value, (Tensor, np.ndarray)) and math.prod(value.shape) > 4:
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    return f"{value}".replace("\n", " ")
