"""Operators on complex images as operators on real ones: channels, or magnitudes of known phase."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError, ShapeError, UsageError
from .adapt import as_physics
from .base import LinearPhysics, Wrapper
from .callables import CallablePhysics
from .checks import is_own
from .fourier import OF_PARTS, KSpace, as_channels, as_complex
from .matrix import MatrixPhysics
from .stacked import Stacked


class _Pairs(Wrapper):
    """Complex images to an operator that has them as pairs of channels."""

    def A(self, x):
        return self.physics.A(as_channels(x))

    def A_adjoint(self, y):
        return as_complex(self.physics.A_adjoint(y))


class _ByParts(Wrapper):
    """A real operator on complex images: A (u + i v) = A u + i A v."""

    def A(self, x):
        return torch.complex(self.physics.A(x.real), self.physics.A(x.imag))

    def A_adjoint(self, y):
        y = y if y.is_complex() else y.to(y.dtype.to_complex())
        return torch.complex(self.physics.A_adjoint(y.real), self.physics.A_adjoint(y.imag))


def _of_complex_images(operator, image_shape, noise) -> LinearPhysics:
    """An operator that sees and gives complex images.

    Raises:
        UsageError: one that cannot: a stack, Fourier coefficients of several channels.
    """
    physics = as_physics(operator, image_shape if _lacks_adjoint(operator) else None, noise)
    if isinstance(physics, (CallablePhysics, MatrixPhysics)):
        return physics.on_complex()
    if isinstance(physics, KSpace):
        channels, *size = physics.known_shape
        if channels != 1 and not physics.complex_image:
            raise UsageError(
                f"{type(physics).__name__} measures {channels} real channels: build it with "
                "complex_image=True, for one complex channel"
            )
        physics = physics._copy(complex_image=True, image_shape=(2, *size))
        return _Pairs(physics, (1, *size), physics.noise)
    if isinstance(physics, Stacked):
        raise UsageError("a stack has no complex images: give a list of operators that each have")
    return _ByParts(physics, physics.image_shape, physics.noise) if is_own(physics) else physics


def _lacks_adjoint(operator) -> bool:
    """Whether it is one function, whose adjoint autograd makes."""
    return callable(operator) and not hasattr(operator, "A") and not hasattr(operator, "adjoint")


class ComplexAsChannels(Wrapper):
    """An operator on complex images (B, C, H, W) as one on real ones (B, 2 C, H, W).

    First all real parts, then all imaginary ones, as deepinv and `SubsampledFourier` have them. A
    prior must know such images, or be one for each channel (`innverse.solvers.EachChannel`); for
    a prior on the magnitude see `Magnitudes`.

    Args:
        operator: whatever `as_physics` takes, but no stack. Functions see and give complex images;
            operators of this package are taken to complex images.
        image_shape: (C, H, W) of the complex image.
        noise: sigma (of each part) or a noise model.

    Example:
        >>> fourier = CallablePhysics(torch.fft.fft2, lambda y: 64 * torch.fft.ifft2(y))
        >>> check_adjoint(ComplexAsChannels(fourier), torch.rand(1, 2, 8, 8)) < 1e-3
        True
    """

    def __init__(self, operator, image_shape=None, noise=None):
        inner = _of_complex_images(operator, image_shape, noise)
        shape = inner.image_shape if image_shape is None else image_shape
        doubled = None if shape is None else (2 * shape[0], *shape[1:])
        super().__init__(inner, doubled, inner.noise if noise is None else noise)
        self.image_range = OF_PARTS

    def A(self, x):
        self.check_image(x)
        if x.shape[1] % 2:
            raise ShapeError(
                f"complex images have an even number of channels (real, imaginary), got "
                f"{tuple(x.shape)}"
            )
        return self.physics.A(as_complex(x))

    def A_adjoint(self, y):
        x = self.physics.A_adjoint(y)
        return torch.cat([x.real, x.imag if x.is_complex() else torch.zeros_like(x)], 1)


class Magnitudes(Wrapper):
    """An operator on complex images of known phase, as one on their magnitudes (B, C, H, W).

    With x = m exp(i phase), A x is linear in the real m, so that a prior of ordinary pictures is
    one on the magnitude. The phase often comes from a smooth first reconstruction.

    Args:
        operator: whatever `as_physics` takes, but no stack. Functions see and give complex images;
            operators of this package are taken to complex images.
        phase: in radians, broadcasts against (B, C, H, W).
        image_shape: (C, H, W).
        noise: sigma (of each part) or a noise model.

    Example:
        >>> fourier = CallablePhysics(torch.fft.fft2, lambda y: 64 * torch.fft.ifft2(y))
        >>> physics = Magnitudes(fourier, phase=torch.zeros(8, 8))
        >>> check_adjoint(physics, torch.rand(1, 1, 8, 8)) < 1e-3
        True
    """

    turn: Tensor

    def __init__(self, operator, phase: Tensor, image_shape=None, noise=None):
        inner = _of_complex_images(operator, image_shape, noise)
        shape = inner.image_shape if image_shape is None else image_shape
        super().__init__(inner, shape, inner.noise if noise is None else noise)
        phase = torch.as_tensor(phase).double()
        if not bool(phase.isfinite().all()):
            raise InputError("the phase contains NaN or Inf")
        phase = phase.reshape(*[1] * (4 - phase.ndim), *phase.shape)
        self.register_buffer("turn", torch.polar(torch.ones_like(phase), phase))

    @property
    def items(self) -> int:
        return max(self.physics.items, self.turn.shape[0])

    def A(self, x):
        self.check_image(x, self.turn.shape[-2:])
        return self.physics.A(x * self.turn.to(x.dtype.to_complex()))

    def A_adjoint(self, y):
        x = self.physics.A_adjoint(y)
        return (x * self.turn.conj().to(x.dtype.to_complex())).real

    def select(self, idx):
        chosen = super().select(idx)
        return chosen._copy(turn=self.turn[idx]) if self.turn.shape[0] > 1 else chosen
