"""A = low-pass filter and subsampling, as two small matrices R x C^T."""

from __future__ import annotations

import math
import numbers

import torch
from torch import Tensor

from ..catalog import Operator
from ..errors import ShapeError, UsageError
from ..options import anything, choice, whole
from ..shapes import tensor_of
from .base import LinearPhysics, per_item, size_of
from .convolution import BOUNDARIES, fold
from .kept import Kept

# half the width of each in blocks; "area" and "box" are the same
FILTERS = {"area": 0.5, "box": 0.5, "bilinear": 1.0, "bicubic": 2.0, "gaussian": 1.5, "none": 0.0}
_OWN = "renormalised"  # a boundary of this operator alone


class Downsampling(LinearPhysics):
    """Shrink an image by an integer factor, anti-aliased; the inverse problem is superresolution.

    Output pixel i is a weighted mean around the centre of its block of ``factor`` input pixels, so
    that picture and measurement cover the same area. All filters are separable; the operator is
    kept as one matrix per axis, which makes `solve_normal` a closed form for every boundary.

    Args:
        factor: integer >= 1.
        image_shape: (C, H, W). Needed if H or W is not a multiple of the factor: the last block is
            then completed by the boundary rule, and the output has ceil(H / factor) rows.
        filter: "area" or "box" (mean of the block), "bilinear" (a triangle), "bicubic" (Keys' a =
            -1/2), both stretched by the factor against aliasing, "gaussian" (standard deviation
            factor / 2), "none" (take one pixel), or a 1-D tensor of weights.
        boundary: "reflect", "symmetric", "replicate", "circular", "zero", or "renormalised": weights
            beyond the border are left out, and the others made up to a sum of 1. With "bicubic",
            "symmetric" is MATLAB's imresize and "renormalised" Pillow's resize.
        noise: sigma or a noise model.

    Example:
        >>> Downsampling(4).A(torch.rand(1, 3, 16, 16)).shape
        torch.Size([1, 3, 4, 4])
    """

    direct = measures_images = acts_per_channel = True
    weights: Tensor

    def __init__(
        self, factor: int, image_shape=None, filter="bicubic", boundary="reflect", noise=None
    ):
        super().__init__(image_shape, noise)
        if not isinstance(factor, numbers.Real) or not (factor >= 1 and factor % 1 == 0):
            raise UsageError(f"the downsampling factor must be an integer >= 1, got {factor}")
        if boundary not in (*BOUNDARIES, _OWN):
            choices = ", ".join((*BOUNDARIES, _OWN))
            raise UsageError(f"unknown boundary {boundary!r}: choose {choices}")
        self.factor = int(factor)
        self.boundary = boundary
        self.filter = filter if isinstance(filter, str) else "custom"
        self.register_buffer("weights", _weights(self.factor, filter))
        self._kept = Kept()

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        rows, columns = x.shape[-2:]
        if self.image_shape is None and (rows % self.factor or columns % self.factor):
            raise ShapeError(
                f"{rows}x{columns} pixels are no multiple of the factor {self.factor}: crop the "
                f"image, or give Downsampling its image_shape"
            )
        return self._matrix(rows, x) @ x @ self._matrix(columns, x).T

    def A_adjoint(self, y: Tensor) -> Tensor:
        f = self.factor
        if self.image_shape is None:
            self.check_data(y, (None, None, None))
            rows, columns = f * y.shape[-2], f * y.shape[-1]
        else:
            c, rows, columns = self.image_shape
            self.check_data(y, (c, math.ceil(rows / f), math.ceil(columns / f)))
        return self._matrix(rows, y).T @ y @ self._matrix(columns, y)

    def solve_normal(self, rhs, rho, x0=None, **options):
        self.check_image(rhs)
        # A^T A = (R^T R) kron (C^T C): divide in the basis of the two sets of eigenvectors
        lam, u = self._eigen(rhs.shape[-2], rhs)
        mu, v = self._eigen(rhs.shape[-1], rhs)
        inside = u.T @ rhs @ v
        return u @ (inside / (lam[:, None] * mu + per_item(rho, rhs))) @ v.T

    def norms_squared(self, x_shape, iters=30):
        like = self.weights.new_zeros(())
        tallest, widest = (self._eigen(n, like)[0].max() for n in size_of(x_shape))
        return (tallest * widest).reshape(1)

    def extra_repr(self) -> str:
        return f"factor={self.factor}, filter={self.filter!r}, boundary={self.boundary!r}"

    def _matrix(self, n: int, like: Tensor) -> Tensor:
        """The matrix (ceil(n / factor), n) of one axis of n pixels."""

        def make() -> Tensor:
            f, w = self.factor, self.weights.double().cpu()
            out, k = math.ceil(n / f), w.numel()
            start = f * torch.arange(out) - (k - f) // 2
            index = fold(start[:, None] + torch.arange(k), n, self.boundary)
            matrix = torch.zeros(out, n + 1, dtype=torch.float64)
            # position -1 (a zero outside the image) goes to a spare column
            matrix.scatter_add_(1, torch.where(index < 0, n, index), w.expand(out, k))
            matrix = matrix[:, :n]
            if self.boundary == _OWN:
                # a block of which all that counts lies beyond is seen by its nearest pixel
                matrix[(matrix == 0).all(1), -1] = 1
                matrix = matrix / matrix.sum(1, keepdim=True)
            return matrix.to(like).contiguous()

        return self._kept(("matrix", n, like.dtype, like.device), make)

    def _eigen(self, n: int, like: Tensor) -> tuple[Tensor, Tensor]:
        def make() -> tuple[Tensor, Tensor]:
            m = self._matrix(n, like.new_zeros((), dtype=torch.float64))
            lam, u = torch.linalg.eigh(m.T @ m)
            return lam.clamp_min(0).to(like), u.to(like)

        return self._kept(("eigen", n, like.dtype, like.device), make)


def _weights(factor: int, filter) -> Tensor:
    """Symmetric weights with unit sum, centred on a block of ``factor`` pixels."""
    if isinstance(filter, str):
        reach = FILTERS.get(filter)
        if reach is None:
            raise UsageError(
                f"unknown downsampling filter {filter!r}: choose {', '.join(FILTERS)}, or give a "
                f"1-D tensor of weights"
            )
        if factor == 1 or filter == "none":
            return torch.ones(1, dtype=torch.float64)
        extra = math.ceil(reach * factor - factor / 2)
        t = torch.arange(factor + 2 * extra, dtype=torch.float64) - extra - (factor - 1) / 2
        t = t / factor
        if filter in ("area", "box"):
            w = (t.abs() <= 0.5).double()
        elif filter == "bilinear":
            w = (1 - t.abs()).clamp_min(0)
        elif filter == "bicubic":
            w = _keys(t.abs())
        else:
            w = torch.exp(-2 * t**2)
    else:
        w = tensor_of(filter, "a downsampling filter is a name or weights", torch.float64)
        if w.ndim != 1 or w.numel() == 0 or not bool(torch.isfinite(w).all()):
            raise ShapeError(f"filter weights must be a finite 1-D tensor, got {tuple(w.shape)}")
        return w
    return w / w.sum()


def _keys(t: Tensor) -> Tensor:
    """Keys' cubic convolution kernel, a = -1/2 (IEEE Trans. ASSP 29(6), 1981)."""
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return torch.where(t < 1, near, torch.where(t < 2, far, 0))


class NamedDownsampling(Operator):
    """Pictures too small, by a whole factor."""

    operator = Downsampling

    factor: int = whole(2, "How many times smaller the measurement is.", 1, 4096)
    filter: str | Tensor = anything(
        "bicubic", "area (box), bilinear, bicubic, gaussian, none, or a tensor of weights."
    )
    boundary: str = choice(
        "reflect",
        "What lies beyond the border; symmetric is MATLAB's, renormalised Pillow's.",
        ("circular", "reflect", "symmetric", "replicate", "zero", "renormalised"),
    )

    def build(self, shape):
        return Downsampling(self.factor, shape, self.filter, self.boundary)

    def image_shape(self, measured):
        channels, height, width = measured
        return channels, self.factor * height, self.factor * width
