"""A = a function of the image that is not linear, and its derivative."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import UsageError
from .base import GREY, LinearPhysics
from .levenberg import levenberg_marquardt


class Nonlinear(LinearPhysics):
    """y = F(x) + noise for a function F of batches that autograd can follow.

    Methods that need no more than gradients take it: "map", "latent", "posterior", "adaptive" and
    "deep_decoder". The metric of "posterior" is that of the derivative of F at the start of the
    chains. Composed and stacked with other operators it gives one that is not linear either.

    Args:
        function: F, images (B, C, H, W) -> measurements (B, ...); no item influences another.
        image_shape: (C, H, W).
        noise: sigma or a noise model whose level does not depend on the signal.

    Example:
        >>> physics = Nonlinear(lambda x: x.exp(), (1, 8, 8), noise=0.1)
        >>> physics(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    linear = False

    def __init__(self, function: Callable[[Tensor], Tensor], image_shape, noise=None):
        super().__init__(image_shape, noise)
        self.function = function
        if self.noise.depends_on_signal:
            raise UsageError("Nonlinear takes noise whose level does not depend on the signal")

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self.function(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """J^T y of the derivative at a grey image."""
        return self.at_grey(y).A_adjoint(y)

    def A_dagger(self, y: Tensor) -> Tensor:
        """A local least-squares solution, by the method of Levenberg and Marquardt from grey."""
        grey = y.real.new_full((len(y), *self.known_shape), GREY)
        return levenberg_marquardt(self, y, grey)

    def at(self, x: Tensor) -> LinearPhysics:
        return Derivative(self, x)


class Derivative(LinearPhysics):
    """J of a `Nonlinear` operator at images x (B, C, H, W).

    Example:
        >>> square = Nonlinear(lambda x: x**2, (1, 4, 4))
        >>> check_adjoint(square.at(torch.rand(1, 1, 4, 4)), torch.rand(1, 1, 4, 4)) < 1e-3
        True
    """

    x: Tensor

    def __init__(self, physics: Nonlinear, x: Tensor):
        super().__init__(physics.image_shape, physics.noise)
        self.function, self.items = physics.function, len(x)
        self.register_buffer("x", x.detach())

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        with torch.enable_grad():
            at = self.x.to(x.dtype).requires_grad_()
            out = self._finite(self.function(at))
            w = torch.zeros_like(out, requires_grad=True)  # J^T w is linear in w, with gradient J
            (back,) = torch.autograd.grad(out, at, w, create_graph=True)
            return torch.autograd.grad(back, w, x)[0]

    def A_adjoint(self, y: Tensor) -> Tensor:
        with torch.enable_grad():
            at = self.x.to(y.real.dtype).requires_grad_()
            return torch.autograd.grad(self._finite(self.function(at)), at, y)[0]

    def select(self, idx: Tensor) -> Derivative:
        return self._copy(x=self.x[idx], items=len(idx), noise=self.noise.select(idx))

    def _finite(self, out: Tensor) -> Tensor:
        if not (isinstance(out, Tensor) and out.requires_grad):
            raise UsageError("autograd cannot follow the function of Nonlinear")
        return out
