"""A noise model from whatever a user has: a number, a map, the model of another library."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..shapes import wide
from .noise import GaussianNoise, NoiseModel, NoNoise, PoissonGaussianNoise, PoissonNoise

_DRAWS = 32


def as_noise(noise) -> NoiseModel:
    """None -> NoNoise; a number, (B,) or map -> GaussianNoise; a noise model -> itself."""
    if noise is None:
        return NoNoise()
    if isinstance(noise, nn.Module):
        return take_over(noise)
    if isinstance(noise, (numbers.Real, Tensor, np.ndarray)) and not isinstance(noise, bool):
        return GaussianNoise(noise)
    raise UsageError(f"noise must be None, a sigma or a noise model, got {type(noise).__name__}")


def take_over(model) -> NoiseModel:
    """A noise model of this package with the level that a foreign one has.

    deepinv's models are known by the names of their classes and attributes; of any other the
    deviations are measured by letting it draw.
    """
    if isinstance(model, NoiseModel):
        return model
    name = type(model).__name__
    value = {
        key: _number(getattr(model, key))
        for key in ("sigma", "gain", "a", "b", "l", "mu", "N0", "sigma_min", "sigma_max")
        if isinstance(getattr(model, key, None), (int, float, Tensor))
    }
    if name == "ZeroNoise":
        return NoNoise()
    if name == "GaussianNoise" and "sigma" in value:
        return GaussianNoise(value["sigma"])
    if "Poisson" in name and {"sigma", "gain"} <= set(value):
        return PoissonGaussianNoise(value["gain"], value["sigma"])
    if "Poisson" in name and "gain" in value:
        return PoissonNoise(value["gain"])
    return ForeignNoise(model, _law(name, value))


def _law(name: str, value: dict) -> float | Tensor | Callable[[Tensor], Tensor] | None:
    """The standard deviation, as a value or a function of the noiseless measurement."""
    if name == "UniformNoise" and "a" in value:  # of width 2 a
        return value["a"] / math.sqrt(3)
    if name == "LaplaceNoise" and "b" in value:
        return value["b"] * math.sqrt(2)
    if name == "UniformGaussianNoise" and {"sigma_min", "sigma_max"} <= set(value):
        low, high = value["sigma_min"], value["sigma_max"]  # the root mean square of the levels
        return ((low * low + low * high + high * high) / 3) ** 0.5
    if name == "GammaNoise" and "l" in value:  # speckle of l looks
        return lambda clean: clean.abs() * _wide(value["l"], clean) ** -0.5
    if name == "LogPoissonNoise" and {"mu", "N0"} <= set(value):
        # of -log(Poisson(N0 e^(-mu x)) / N0) / mu, to first order
        def std(clean: Tensor) -> Tensor:
            mu = _wide(value["mu"], clean)
            return (0.5 * mu * clean).exp() / (mu * _wide(value["N0"], clean) ** 0.5)

        return std
    return value.get("sigma")


class ForeignNoise(NoiseModel):
    """Draws with a foreign model; its deviations are known, a formula, or measured from draws."""

    def __init__(self, model, law: float | Tensor | Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        self.model = model
        self._formula = law if callable(law) else None
        self._level = None if law is None or callable(law) else GaussianNoise(law)
        self.depends_on_signal = self._level is None
        if law is None and not callable(model):
            raise UsageError(
                f"cannot use {type(model).__name__} as a noise model: give the level as a number"
            )

    @property
    def sigma(self):  # ty: ignore[incompatible-property-override]  # follows the level
        return None if self._level is None else self._level.sigma

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.model(y)

    @torch.no_grad()
    def std(self, clean: Tensor) -> Tensor:
        if self._level is not None:
            return self._level.std(clean)
        if self._formula is not None:
            return torch.as_tensor(self._formula(clean))
        draws = torch.stack([self._draw(clean) for _ in range(_DRAWS)])
        std = draws.std(0)
        # few draws miss what is rare: no value counts as far better than the others
        usual = std.flatten(1).square().mean(1).sqrt()
        return std.maximum(0.5 * wide(usual, std))

    def _draw(self, clean: Tensor) -> Tensor:
        try:
            return torch.as_tensor(self.model(clean.clone())).to(clean)
        except Exception as error:
            raise UsageError(
                f"the noise model {type(self.model).__name__} does not tell its level and cannot "
                f"draw ({type(error).__name__}): pass noise= as a number or a map"
            ) from error


def _number(value) -> float | Tensor:
    """A float, or a tensor: one per item, or a map."""
    if isinstance(value, Tensor):
        value = value.detach()
        if value.numel() == 1:
            return float(value)
        if value.numel() == value.shape[0]:
            return value.flatten()
    return value if isinstance(value, Tensor) else float(value)


def _wide(value: float | Tensor, like: Tensor) -> float | Tensor:
    each = isinstance(value, Tensor) and value.ndim == 1
    return wide(value.to(like), like) if each else value
