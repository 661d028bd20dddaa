"""Complex measurements for solvers that know real numbers only."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import LinearPhysics, Wrapper
from .noise import GaussianNoise, NoiseModel


def parts(y: Tensor) -> Tensor:
    """Real and imaginary parts: (B, ...) complex, or real, to (B, ..., 2)."""
    y = y if y.is_complex() else y.to(y.dtype.to_complex())
    return torch.view_as_real(y.resolve_conj().resolve_neg())


def whole(y: Tensor) -> Tensor:
    """The inverse of `parts`."""
    return torch.view_as_complex(y.contiguous())


class RealMeasurements(Wrapper):
    """A complex measurement of real images as real numbers (B, ..., 2), real and imaginary parts.

    Norms and, in their real part, inner products stay as they are, and so does the level of the
    noise, which is that of each part.
    """

    def __init__(self, physics: LinearPhysics, noise: NoiseModel | None = None):
        super().__init__(physics, physics.image_shape, noise)
        self.direct = physics.direct

    def A(self, x):
        return parts(self.physics.A(x))

    def A_adjoint(self, y):
        return self.physics.A_adjoint(whole(y))

    def A_dagger(self, y):
        return self.physics.A_dagger(whole(y))

    def solve_normal(self, rhs, rho, x0=None, **options):
        return self.physics.solve_normal(rhs, rho, x0, **options)

    def norms_squared(self, x_shape, iters=30):
        return self.physics.norms_squared(x_shape, iters)

    def keep_measured(self, y):
        return parts(self.physics.keep_measured(whole(y)))


def in_real_numbers(
    y: Tensor, physics: LinearPhysics, noise: NoiseModel
) -> tuple[Tensor, LinearPhysics, NoiseModel]:
    """A complex measurement, its operator and its noise, all in real and imaginary parts."""
    if isinstance(noise, GaussianNoise) and noise.is_map:
        std = noise.std(y).expand(y.shape)[..., None]
        noise = GaussianNoise(std.expand(*y.shape, 2), True)
    return parts(y), RealMeasurements(physics, noise), noise
