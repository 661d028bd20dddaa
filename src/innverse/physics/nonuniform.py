"""A = magnetic resonance along any path through k-space: spirals, radii, what a gradient can follow."""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
from torch import Tensor

from ..errors import InnverseError, InputError, ShapeError, UsageError
from .base import LinearPhysics
from .fourier import OF_PARTS, as_channels, as_complex


class NonCartesianMRI(LinearPhysics):
    """y_j = F (S_j x) at any frequencies for the coils j, by fast non-uniform transforms.

    F sums x exp(-i k r) / sqrt(H W) over the pixels r, counted from the middle, (H // 2, W // 2); on
    the frequencies of a grid it is the transform of `MRI`. Needs pytorch-finufft (``innverse[mri]``).

    Args:
        sensitivities: (coils, H, W), complex.
        frequencies: k, (2, M), rows and columns, in radians a pixel, -pi to pi.
        complex_image: images are complex, two channels; else real, (B, 1, H, W).
        noise: sigma (of each of the two parts) or a noise model.

    A measurement is (B, 2 coils, M): real parts, then imaginary ones.

    Raises:
        InnverseError: at the first use, where pytorch-finufft is missing.
        InputError, ShapeError: sensitivities or frequencies that cannot be.
        UsageError: frequencies in other units.

    Example:
        >>> coils, radii = torch.ones(1, 8, 8, dtype=torch.complex64), torch.rand(2, 50) * 6 - 3
        >>> NonCartesianMRI(coils, radii).image_shape
        (1, 8, 8)
    """

    sensitivities: Tensor
    frequencies: Tensor

    def __init__(
        self, sensitivities: Tensor, frequencies: Tensor, complex_image: bool = False, noise=None
    ):
        s, k = torch.as_tensor(sensitivities), torch.as_tensor(frequencies)
        if s.ndim != 3 or not s.is_complex():
            raise InputError(f"sensitivities must be complex, (coils, H, W), got {tuple(s.shape)}")
        if k.ndim != 2 or len(k) != 2:
            raise ShapeError(f"frequencies must be (2, M), rows and columns, got {tuple(k.shape)}")
        if not bool(torch.isfinite(k).all()):
            raise InputError("the frequencies contain NaN or Inf")
        largest = float(k.abs().max())
        if largest > math.pi + 1e-6:
            raise UsageError(f"frequencies up to {largest:.3g}: give radians a pixel, -pi to pi")
        if largest <= 0.5 and k.shape[1] > 8:
            raise UsageError(
                f"frequencies up to {largest:.3g} look like cycles a pixel: give radians, 2 pi each"
            )
        super().__init__((2 if complex_image else 1, *s.shape[1:]), noise)
        self.complex_image, self.image_range = complex_image, OF_PARTS if complex_image else None
        self.register_buffer("sensitivities", torch.view_as_real(s.resolve_conj()).clone())
        self.register_buffer("frequencies", k)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        image = as_complex(x) if self.complex_image else x
        seen = (self._coils(x) * image).contiguous()
        y = self._transforms().finufft_type2(self._points(x), seen, isign=-1, **self._how(x))
        return as_channels(y) / math.sqrt(x.shape[-1] * x.shape[-2])

    def A_adjoint(self, y: Tensor) -> Tensor:
        coils = len(self.sensitivities)
        self.check_data(y, (2 * coils, self.frequencies.shape[1]))
        size = self.known_shape[1:]
        values = as_complex(y).contiguous()
        back = self._transforms().finufft_type1(
            self._points(y), values, tuple(size), isign=1, **self._how(y)
        )
        x = (self._coils(y).conj() * back).sum(1, keepdim=True) / math.sqrt(math.prod(size))
        return as_channels(x) if self.complex_image else x.real

    def _coils(self, like: Tensor) -> Tensor:
        return torch.view_as_complex(self.sensitivities.to(like.dtype))

    def _points(self, like: Tensor) -> Tensor:
        return self.frequencies.to(like.dtype)

    @staticmethod
    def _how(like: Tensor) -> dict[str, Any]:
        return {"modeord": 0, "eps": 1e-12 if like.dtype == torch.float64 else 1e-6}

    @staticmethod
    def _transforms() -> Any:
        try:
            return importlib.import_module("pytorch_finufft.functional")
        except ImportError:
            raise InnverseError(
                'paths through k-space need pytorch-finufft: pip install "innverse[mri]"'
            ) from None

    def extra_repr(self) -> str:
        _, height, width = self.known_shape
        return (
            f"{len(self.sensitivities)} coils, {height}x{width}, {self.frequencies.shape[1]} points"
        )
