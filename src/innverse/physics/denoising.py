"""A = identity."""

from __future__ import annotations

import torch
from torch import Tensor

from ..catalog import Operator
from .base import LinearPhysics, per_item


class Denoising(LinearPhysics):
    """y = x + noise.

    Args:
        noise: sigma or a noise model.
        image_shape: (C, H, W), or None for any image.

    Example:
        >>> y = Denoising(noise=0.1)(torch.zeros(1, 1, 64, 64))
        >>> round(float(y.std()), 1)
        0.1
    """

    direct = measures_images = acts_per_channel = is_diagonal = True

    def __init__(self, noise=None, image_shape=None):
        super().__init__(image_shape, noise)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_image(y)
        return y

    def A_dagger(self, y):
        return self.A_adjoint(y)

    def diagonal(self, x):
        return x.new_ones([1] * x.ndim)

    def norms_squared(self, x_shape, iters=30):
        return torch.ones(1)

    def solve_normal(self, rhs, rho, x0=None, **options):
        return rhs / (1 + per_item(rho, rhs))


class NamedDenoising(Operator):
    """Pictures with noise."""

    operator = Denoising
    needs_noise = True

    def build(self, shape):
        return Denoising(image_shape=shape)
