"""A = an explicit matrix acting on the flattened image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InputError, ShapeError
from .base import LinearPhysics


class MatrixPhysics(LinearPhysics):
    """y = M vec(x), measurements of shape (B, m).

    Args:
        matrix: (m, n).
        image_shape: shape of one image with n entries; None means vectors (B, n).
        noise: sigma or a noise model.
    """

    def __init__(self, matrix: Tensor, image_shape=None, noise=None):
        matrix = torch.as_tensor(matrix)
        if matrix.ndim != 2 or not matrix.is_floating_point():
            raise ShapeError(
                f"the operator must be a real matrix (m, n), got {tuple(matrix.shape)} "
                f"{matrix.dtype}"
            )
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

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x.flatten(1) @ self.matrix.to(x.dtype).T

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_data(y, (self.matrix.shape[0],))
        return (y @ self.matrix.to(y.dtype)).reshape(-1, *self.image_shape)

    def extra_repr(self) -> str:
        return f"m={self.matrix.shape[0]}, n={self.matrix.shape[1]}"
