"""A = a blur that changes from place to place."""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError, ShapeError
from ..shapes import tensor_of
from .base import LinearPhysics
from .blur import Blur


class VaryingBlur(LinearPhysics):
    """y = sum_k h_k * (w_k x): each kernel blurs its own share of the image.

    Weights w_k >= 0 that sum to 1 at each pixel go smoothly from one kernel to the next (Nagy &
    O'Leary, SIAM J. Sci. Comput. 19(4), 1998).

    Args:
        kernels: (K, h, w).
        weights: (K, H, W).
        boundary, noise: as for `Blur`.

    Example:
        >>> right = torch.linspace(0, 1, 8).expand(8, 8)
        >>> kernels = torch.stack([gaussian_kernel(0.5, 5), gaussian_kernel(1.5, 5)])
        >>> physics = VaryingBlur(kernels, torch.stack([1 - right, right]), "reflect")
        >>> check_adjoint(physics, (2, 3, 8, 8)) < 1e-5
        True
    """

    measures_images = acts_per_channel = True
    weights: Tensor

    def __init__(self, kernels: Tensor, weights: Tensor, boundary: str = "circular", noise=None):
        super().__init__(None, noise)
        kernels = tensor_of(kernels, "blur kernels are a tensor or an array")
        weights = tensor_of(weights, "weights are a tensor or an array")
        if kernels.ndim != 3 or weights.ndim != 3 or len(kernels) != len(weights):
            raise ShapeError(
                "kernels are (K, h, w) and weights (K, H, W), as many of them, got "
                f"{tuple(kernels.shape)} and {tuple(weights.shape)}"
            )
        if not bool(weights.isfinite().all()):
            raise InputError("the weights of the kernels hold NaN or Inf")
        self.blur = Blur(kernels[None], boundary)
        self.register_buffer("weights", weights)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x, self.weights.shape[-2:])
        parts = x.flatten(0, 1)[:, None] * self.weights.to(x)  # (B C, K, H, W)
        return self.blur.A(parts).sum(1).unflatten(0, x.shape[:2])

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_data(y, (None, None, None))
        parts = y.flatten(0, 1)[:, None].expand(-1, len(self.weights), -1, -1)
        x = (self.blur.A_adjoint(parts) * self.weights.to(y)).sum(1)
        return x.unflatten(0, y.shape[:2])
