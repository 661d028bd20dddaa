"""A = a matrix that mixes the channels of every pixel: gray of colour, spectra of materials."""

from __future__ import annotations

import torch
from torch import Tensor

from ..catalog import Operator
from ..errors import InputError, ShapeError
from ..shapes import tensor_of
from .base import LinearPhysics, per_item

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


class ChannelMixing(LinearPhysics):
    """y_i = sum_j M_ij x_j: at every pixel the same matrix from channels to channels.

    Args:
        matrix: M (measured channels, image channels), real.
        noise: sigma or a noise model.
        image_shape: (C, H, W), or None for any size.

    Example:
        >>> ChannelMixing([[0.299, 0.587, 0.114]]).A(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    direct = measures_images = True
    matrix: Tensor

    def __init__(self, matrix, noise=None, image_shape=None):
        super().__init__(image_shape, noise)
        matrix = tensor_of(matrix, "a matrix of channels is a tensor or an array", torch.float64)
        if matrix.ndim != 2 or matrix.numel() == 0:
            raise ShapeError(f"a matrix of channels is (c, C), got {tuple(matrix.shape)}")
        if not bool(matrix.isfinite().all()) or not bool(matrix.any()):
            raise InputError("the matrix of channels holds NaN or Inf, or is zero everywhere")
        if self.image_shape is not None and self.image_shape[0] != matrix.shape[1]:
            raise ShapeError(
                f"a matrix of {matrix.shape[1]} channels does not fit images of {self.image_shape}"
            )
        self.register_buffer("matrix", matrix)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        self.check_data(x, (self.matrix.shape[1], None, None), "measures images")
        return _mixed(self.matrix, x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_data(y, (self.matrix.shape[0], None, None))
        return _mixed(self.matrix.T, y)

    def A_dagger(self, y):
        self.check_data(y, (self.matrix.shape[0], None, None))
        return _mixed(torch.linalg.pinv(self.matrix), y)

    def solve_normal(self, rhs, rho, x0=None, **options):
        values, basis = torch.linalg.eigh(self.matrix.T @ self.matrix)
        inside = _mixed(basis.T, rhs) / (values.to(rhs).view(-1, 1, 1) + per_item(rho, rhs))
        return _mixed(basis, inside)

    def norms_squared(self, x_shape, iters=30):
        return torch.linalg.matrix_norm(self.matrix, 2).square().float().reshape(1)


def _mixed(matrix: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", matrix.to(x), x)


class NamedGrayscale(Operator):
    """Gray pictures of colour ones: colorisation."""

    operator = ChannelMixing

    def build(self, shape):
        if shape[0] not in (1, 3):
            raise ShapeError(f"grayscale measures images of 3 channels (or 1), not {shape}")
        return ChannelMixing([LUMA] if shape[0] == 3 else [[1.0]], image_shape=shape)

    def image_shape(self, measured):
        return 3, *measured[1:]
