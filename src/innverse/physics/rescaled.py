"""Images on a scale of their own, x = low + span u: operators and noise as u sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import LinearPhysics, Wrapper
from .noise import GaussianNoise, NoiseModel
from .whitened import Whitened


class OnUnit(Wrapper):
    """u -> A(low + span u) of an operator that is not linear.

    Example:
        >>> from innverse.physics.rescaled import OnUnit
        >>> square = Nonlinear(lambda x: x**2, (1, 4, 4))
        >>> OnUnit(square, -1.0, 2.0).A(torch.full((1, 1, 4, 4), 1.0)).unique()
        tensor([1.])
    """

    linear = False

    def __init__(self, physics: LinearPhysics, low: float, span: float):
        super().__init__(physics, physics.image_shape, physics.noise)
        self.low, self.span = low, span

    def A(self, x: Tensor) -> Tensor:
        return self.physics.A(self.low + self.span * x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.at_grey(y).A_adjoint(y)

    def at(self, x: Tensor) -> LinearPhysics:
        there = self.physics.at(self.low + self.span * x)
        weight = x.new_full([1] * self.A(x[:1]).ndim, self.span)
        return Whitened(there, weight, self.noise)


class RescaledNoise(NoiseModel):
    """The noise of (y - offset) / span, y having that of ``model``.

    Args:
        offset: of each measurement (B, ...).

    Example:
        >>> from innverse.physics.noise import PoissonNoise
        >>> from innverse.physics.rescaled import RescaledNoise
        >>> noise = RescaledNoise(PoissonNoise(1.0), torch.full((1, 4), 5.0), 10.0)
        >>> noise.std(torch.full((1, 4), 2.0))  # the square root of 25 photons, over 10
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """

    offset: Tensor

    def __init__(self, model: NoiseModel, offset: Tensor, span: float):
        super().__init__()
        self.model, self.span = model, span
        self.register_buffer("offset", offset)
        self.depends_on_signal = model.depends_on_signal
        self.sigma = None if model.sigma is None else model.sigma / span
        self.basis = getattr(model, "basis", None)

    def given(self, y: Tensor) -> Tensor:
        """A measurement, or a noiseless one, on the scale of the model."""
        return self.offset.to(y) + self.span * y

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (self.model(self.given(y), generator) - self.offset.to(y)) / self.span

    def std(self, clean: Tensor) -> Tensor:
        given = self.given(clean) if self.depends_on_signal else clean
        return self.model.std(given) / self.span

    def level(self, y: Tensor) -> Tensor:
        return self.model.level(self.given(y)) / self.span

    def select(self, idx: Tensor) -> RescaledNoise:
        return RescaledNoise(self.model.select(idx), self.offset[idx], self.span)


def rescaled(model: NoiseModel, offset: Tensor, span: float) -> NoiseModel:
    """The noise of (y - offset) / span: Gaussian noise stays such."""
    if isinstance(model, GaussianNoise):
        return GaussianNoise(
            torch.as_tensor(model.sigma, dtype=torch.float64) / span, model.per_item
        )
    own_law = model.depends_on_signal or model.sigma is not None
    return RescaledNoise(model, offset, span) if own_law else model
