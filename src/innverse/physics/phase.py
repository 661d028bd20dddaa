"""A = magnitudes of complex numbers: phase retrieval."""

from __future__ import annotations

import torch
from torch import Tensor

from ..catalog import Operator
from ..errors import InputError, ShapeError
from ..options import SEEDS, whole
from .adapt import as_physics
from .base import LinearPhysics, Wrapper, per_item
from .nonlinear import Nonlinear


class PhaseRetrieval(Nonlinear):
    """y = |B x| + noise with a linear B whose values are complex: the phases are lost.

    Its derivative is exact, J v = Re(conj(s) B v) with s = B x / |B x|, and zero where B x is. Images
    are real; x and -x measure the same. See `CodedDiffraction` for a B that tells images apart.

    Args:
        operator: B, whatever `as_physics` takes.
        image_shape: (C, H, W), where B does not know it.
        noise: sigma or a noise model, of the magnitudes.

    Example:
        >>> physics = PhaseRetrieval(CodedDiffraction.random((1, 8, 8), 4), noise=0.01)
        >>> physics(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 4, 8, 8])
    """

    physics: LinearPhysics

    def __init__(self, operator, image_shape=None, noise=None):
        inner = as_physics(operator, image_shape)
        super().__init__(self._magnitudes, inner.image_shape or image_shape, noise)
        self.physics = inner

    @property
    def items(self) -> int:
        return self.physics.items

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self._magnitudes(x)

    def _magnitudes(self, x: Tensor) -> Tensor:
        return self.physics.A(x).abs()

    def at(self, x: Tensor) -> LinearPhysics:
        return PhaseDerivative(self.physics, torch.sgn(self.physics.A(x.detach())), self.noise)

    def select(self, idx):
        return self._copy(physics=self.physics.select(idx), noise=self.noise.select(idx))


class PhaseDerivative(Wrapper):
    """J v = Re(conj(s) B v) for signs s (B, ...), the derivative of |B x|.

    Example:
        >>> physics = PhaseRetrieval(CodedDiffraction.random((1, 8, 8), 4))
        >>> check_adjoint(physics.at(torch.rand(2, 1, 8, 8)), (2, 1, 8, 8)) < 1e-4
        True
    """

    sign: Tensor

    def __init__(self, physics: LinearPhysics, sign: Tensor, noise=None):
        super().__init__(physics, physics.image_shape, noise)
        self.register_buffer("sign", sign)

    @property
    def items(self) -> int:
        return len(self.sign)

    def A(self, x: Tensor) -> Tensor:
        values = self.physics.A(x)
        return (self.sign.to(values).conj() * values).real

    def A_adjoint(self, y: Tensor) -> Tensor:
        sign = self.sign.to(y.dtype.to_complex() if self.sign.is_complex() else y.dtype)
        return self.physics.A_adjoint(sign * y)

    def select(self, idx):
        return super().select(idx)._copy(sign=self.sign[idx])


class CodedDiffraction(LinearPhysics):
    """y_l = F(m_l x), the far field of an image behind masks m_l (Candes, Li & Soltanolkotabi 2015).

    F is the orthonormal Fourier transform, y complex, (B, C L, H, W), all masks of a channel after
    each other. Masks that are a small illumination at many places make it ptychography.

    Args:
        masks: (L, H, W), real or complex.
        channels: C of the images.
        noise: sigma (of each part) or a noise model.

    Raises:
        ShapeError: masks of another shape. InputError: NaN or Inf in them, or all zero.

    Example:
        >>> CodedDiffraction.random((1, 8, 8), patterns=3).A(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """

    direct = True
    masks: Tensor

    def __init__(self, masks: Tensor, channels: int = 1, noise=None):
        masks = torch.as_tensor(masks)
        if masks.ndim != 3 or masks.numel() == 0:
            raise ShapeError(f"masks have the shape (L, H, W), got {tuple(masks.shape)}")
        if not bool(masks.isfinite().all()) or not bool(masks.any()):
            raise InputError("the masks hold NaN or Inf, or are zero everywhere")
        super().__init__((channels, *masks.shape[1:]), noise)
        masks = masks if masks.is_complex() else masks.to(torch.get_default_dtype().to_complex())
        # real and imaginary parts: a module moves and casts them like its other buffers
        self.register_buffer("masks", torch.view_as_real(masks.resolve_conj()).clone())

    @classmethod
    def random(cls, image_shape, patterns: int = 4, seed: int = 0, noise=None) -> CodedDiffraction:
        """Masks of unit magnitude and random phase."""
        channels, *size = image_shape
        angle = torch.rand(patterns, *size, generator=torch.Generator().manual_seed(seed))
        return cls(torch.polar(torch.ones_like(angle), 2 * torch.pi * angle), channels, noise)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return torch.fft.fft2(x[:, :, None] * self._masks(x), norm="ortho").flatten(1, 2)

    def A_adjoint(self, y: Tensor) -> Tensor:
        channels, *size = self.known_shape
        self.check_data(y, (channels * len(self.masks), *size))
        back = torch.fft.ifft2(y.unflatten(1, (channels, -1)), norm="ortho")
        return (back * self._masks(y).conj()).sum(2).real

    def A_dagger(self, y):
        power = self._power(y)
        return torch.where(power > 0, self.A_adjoint(y) / torch.where(power > 0, power, 1), 0)

    def solve_normal(self, rhs, rho, x0=None, **options):
        return rhs / (self._power(rhs) + per_item(rho, rhs))

    def norms_squared(self, x_shape, iters=30):
        return self._power(self.masks).max().reshape(1)

    def _masks(self, like: Tensor) -> Tensor:
        return torch.view_as_complex(self.masks.to(like.real.dtype))

    def _power(self, like: Tensor) -> Tensor:
        """A^T A, which multiplies each pixel by sum |m_l|^2, (H, W)."""
        return self.masks.to(like.real.dtype).square().sum((0, -1))


class NamedPhaseRetrieval(Operator):
    """Magnitudes of diffraction patterns behind random masks: phase retrieval."""

    operator = PhaseRetrieval

    patterns: int = whole(4, "Masks of random phase, of which each gives a pattern.", 1, 4096)
    seed: int = whole(0, "Of the masks.", *SEEDS)

    def build(self, shape):
        return PhaseRetrieval(CodedDiffraction.random(shape, self.patterns, self.seed))
