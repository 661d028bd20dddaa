"""Complex measurements and complex images, for solvers that know real numbers only."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError, ShapeError
from .base import LinearPhysics
from .cg import MAX_ITER
from .noise import GaussianNoise, NoiseModel


class RealMeasurements(LinearPhysics):
    """A complex measurement of real images as real numbers (B, ..., 2), real and imaginary parts.

    Norms and, in their real part, inner products stay as they are, and so does the level of the
    noise, which is that of each part.
    """

    def __init__(self, physics: LinearPhysics, noise: NoiseModel | None = None):
        super().__init__(physics.image_shape, noise)
        self.physics, self.direct, self.items = physics, physics.direct, physics.items

    @staticmethod
    def parts(y: Tensor) -> Tensor:
        """(B, ...) complex, or real, to (B, ..., 2)."""
        y = y if y.is_complex() else y.to(y.dtype.to_complex())
        return torch.view_as_real(y.resolve_conj().resolve_neg())

    def A(self, x):
        return self.parts(self.physics.A(x))

    def A_adjoint(self, y):
        return self.physics.A_adjoint(torch.view_as_complex(y.contiguous()))

    def A_dagger(self, y):
        return self.physics.A_dagger(torch.view_as_complex(y.contiguous()))

    def solve_normal(self, rhs, rho, x0=None, *, tol=None, max_iter=MAX_ITER):
        return self.physics.solve_normal(rhs, rho, x0, tol=tol, max_iter=max_iter)

    def norms_squared(self, x_shape, iters=30):
        return self.physics.norms_squared(x_shape, iters)

    def keep_measured(self, y):
        return self.parts(self.physics.keep_measured(torch.view_as_complex(y.contiguous())))

    def select(self, idx):
        return self._copy(physics=self.physics.select(idx), noise=self.noise.select(idx))


def in_real_numbers(
    y: Tensor, physics: LinearPhysics, noise: NoiseModel
) -> tuple[Tensor, LinearPhysics, NoiseModel]:
    """A complex measurement, its operator and its noise, all in real and imaginary parts."""
    if isinstance(noise, GaussianNoise) and isinstance(noise.sigma, Tensor):
        if noise.sigma.ndim > 1:
            std = noise.std(y).expand(y.shape)[..., None]
            noise = GaussianNoise(std.expand(*y.shape, 2))
    return RealMeasurements.parts(y), RealMeasurements(physics, noise), noise


class ComplexAsChannels(LinearPhysics):
    """An operator on complex images (B, C, H, W) as one on real ones (B, 2 C, H, W).

    First all real parts, then all imaginary ones, as deepinv and `SubsampledFourier` have them. A
    prior must know such images, or be one for each channel (`innverse.solvers.EachChannel`); for
    a prior on the magnitude see `Magnitudes`.

    Args:
        operator: whatever `as_physics` takes; its functions see and give complex images.
        image_shape: (C, H, W) of the complex image.
        noise: sigma (of each part) or a noise model.

    Example:
        >>> fourier = CallablePhysics(torch.fft.fft2, lambda y: 64 * torch.fft.ifft2(y))
        >>> check_adjoint(ComplexAsChannels(fourier), torch.rand(1, 2, 8, 8)) < 1e-3
        True
    """

    physics: LinearPhysics

    def __init__(self, operator, image_shape=None, noise=None):
        from .adapt import as_physics

        shape = None if image_shape is None else (2 * image_shape[0], *image_shape[1:])
        inner = as_physics(operator, None, noise)
        super().__init__(shape, inner.noise)
        if hasattr(inner, "complex_image"):
            inner.complex_image = True
        self.physics, self.items = inner, inner.items

    def A(self, x):
        self.check_image(x)
        if x.shape[1] % 2:
            raise ShapeError(
                f"complex images have an even number of channels (real, imaginary), got "
                f"{tuple(x.shape)}"
            )
        return self.physics.A(torch.complex(*x.chunk(2, 1)))

    def A_adjoint(self, y):
        x = self.physics.A_adjoint(y)
        return torch.cat([x.real, x.imag if x.is_complex() else torch.zeros_like(x)], 1)


class Magnitudes(LinearPhysics):
    """An operator on complex images of known phase, as one on their magnitudes (B, C, H, W).

    With x = m exp(i phase), A x is linear in the real m, so that a prior of ordinary pictures is
    one on the magnitude. The phase often comes from a smooth first reconstruction.

    Args:
        operator: whatever `as_physics` takes; its functions see and give complex images.
        phase: in radians, broadcasts against (B, C, H, W).
        image_shape: (C, H, W).
        noise: sigma (of each part) or a noise model.

    Example:
        >>> fourier = CallablePhysics(torch.fft.fft2, lambda y: 64 * torch.fft.ifft2(y))
        >>> physics = Magnitudes(fourier, phase=torch.zeros(8, 8))
        >>> check_adjoint(physics, torch.rand(1, 1, 8, 8)) < 1e-3
        True
    """

    physics: LinearPhysics
    turn: Tensor

    def __init__(self, operator, phase: Tensor, image_shape=None, noise=None):
        from .adapt import as_physics

        inner = as_physics(operator, None, noise)
        super().__init__(image_shape, inner.noise)
        if hasattr(inner, "complex_image"):
            inner.complex_image = True
        phase = torch.as_tensor(phase).double()
        if not bool(phase.isfinite().all()):
            raise InputError("the phase contains NaN or Inf")
        phase = phase.reshape(*[1] * (4 - phase.ndim), *phase.shape)
        self.physics, self.items = inner, max(inner.items, phase.shape[0])
        self.register_buffer("turn", torch.polar(torch.ones_like(phase), phase))

    def A(self, x):
        self.check_image(x, self.turn.shape[-2:])
        return self.physics.A(x * self.turn.to(x.dtype.to_complex()))

    def A_adjoint(self, y):
        x = self.physics.A_adjoint(y)
        return (x * self.turn.conj().to(x.dtype.to_complex())).real

    def select(self, idx):
        chosen = super().select(idx)._copy(physics=self.physics.select(idx))
        return chosen._copy(turn=self.turn[idx]) if self.turn.shape[0] > 1 else chosen
