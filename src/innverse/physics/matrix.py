"""A = an explicit matrix acting on the flattened image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InputError, ShapeError
from .base import LinearPhysics
from .kept import Kept

_MOST_ROWS = 4096  # beyond it factorising A A^T takes more than seconds
_WORST = 1e-6  # of A A^T: smaller over larger pivot, below which rounding would rule


class MatrixPhysics(LinearPhysics):
    """y = M vec(x), measurements of shape (B, m).

    Args:
        matrix: (m, n), real, or complex: images are real all the same.
        image_shape: shape of one image with n entries; None means vectors (B, n).
        noise: sigma or a noise model.

    Example:
        >>> physics = MatrixPhysics(torch.rand(10, 16), (1, 4, 4))
        >>> physics.A(torch.rand(2, 1, 4, 4)).shape
        torch.Size([2, 10])
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, image_shape=None, noise=None):
        matrix = torch.as_tensor(matrix).detach()
        if not (matrix.is_floating_point() or matrix.is_complex()):
            matrix = matrix.to(torch.get_default_dtype())
        if matrix.ndim != 2 or matrix.numel() == 0:
            raise ShapeError(f"the operator must be a matrix (m, n), got {tuple(matrix.shape)}")
        shape = (matrix.shape[1],) if image_shape is None else tuple(image_shape)
        if math.prod(shape) != matrix.shape[1]:
            raise ShapeError(
                f"a matrix with {matrix.shape[1]} columns does not fit images of shape {shape} "
                f"({math.prod(shape)} pixels)"
            )
        if not bool(torch.isfinite(matrix).all()):
            raise InputError("the operator matrix contains NaN or Inf")
        super().__init__(shape, noise)
        self.register_buffer("matrix", matrix)
        self._factors = Kept()

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        matrix = self._matrix(x)
        return x.flatten(1).to(matrix.dtype) @ matrix.T

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_data(y, (self.matrix.shape[0],))
        matrix = self._matrix(y)
        x = y.to(matrix.dtype) @ matrix.conj()
        return (x if self.complex_image else x.real).reshape(-1, *self.known_shape)

    def on_complex(self):
        return self._copy(complex_image=True)

    def _matrix(self, like: Tensor) -> Tensor:
        """The matrix, complex if it or a tensor is, in the precision of the tensor."""
        return self.matrix.to(like.dtype.to_complex() if self.matrix.is_complex() else like.dtype)

    def A_dagger(self, y):
        factor = self._cholesky(y)
        if factor is None:
            return super().A_dagger(y)
        self.check_data(y, (self.matrix.shape[0],))
        return self.A_adjoint(torch.cholesky_solve(y.T, factor).T)

    def _cholesky(self, like: Tensor) -> Tensor | None:
        """L with L L^T = A A^T, kept; None for tall, large or nearly dependent rows."""
        rows, columns = self.matrix.shape
        if rows > min(columns, _MOST_ROWS) or self.matrix.is_complex():
            return None

        def make() -> Tensor | None:
            matrix = self.matrix.to(like.dtype)
            factor, info = torch.linalg.cholesky_ex(matrix @ matrix.T)
            pivots = factor.diagonal().real
            sound = int(info) == 0 and float(pivots.min() / pivots.max()) ** 2 > _WORST
            return factor if sound else None

        return self._factors((like.dtype, self.matrix.device), make)

    def extra_repr(self) -> str:
        return f"m={self.matrix.shape[0]}, n={self.matrix.shape[1]}"
