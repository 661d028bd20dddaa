"""The contract of a measurement operator."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..errors import ShapeError, UsageError
from .cg import MAX_ITER, conjugate_gradient, least_squares
from .noise import as_noise


class LinearPhysics(nn.Module):
    """A linear measurement y = noise(A x) of images x (B, C, H, W) in [0, 1].

    A subclass writes `A` and `A_adjoint`; everything else is derived, and a subclass that knows
    a closed form overrides `A_dagger` or `solve_normal` (and sets ``direct = True``). The names
    are those of deepinv, whose operators are accepted by `as_physics`.

    A subclass must ensure that A is linear, that A_adjoint is its exact adjoint, that both are
    differentiable, and that no item of a batch influences another.

    Attributes:
        image_shape: shape of one image (C, H, W), or None if any image fits.
        noise: the noise model, `NoNoise`, `GaussianNoise` or `PoissonNoise`.
        direct: whether `solve_normal` is a closed form (else conjugate gradients).
    """

    image_shape: tuple[int, ...] | None = None
    direct = False

    def __init__(self, image_shape=None, noise=None):
        super().__init__()
        self.image_shape = None if image_shape is None else tuple(int(s) for s in image_shape)
        self.noise = as_noise(noise)

    def A(self, x: Tensor) -> Tensor:
        """The noiseless measurement of x."""
        raise NotImplementedError

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The adjoint: <A x, y> = <x, A_adjoint y> for all x, y."""
        raise NotImplementedError

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A noisy measurement of x."""
        return self.noise(self.A(x), generator)

    @property
    def sigma(self) -> float | Tensor | None:
        """Standard deviation of the noise; None without noise."""
        return self.noise.sigma

    def A_dagger(self, y: Tensor) -> Tensor:
        """The pseudo-inverse: the least-squares solution with the smallest norm.

        By iteration where there is no closed form, with `NotConvergedWarning` where it stops early.
        """
        return least_squares(self.A, self.A_adjoint, y)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Product of v with the Jacobian of A at x: for a linear A, A_adjoint(v)."""
        return self.A_adjoint(v)

    def A_normal(self, x: Tensor) -> Tensor:
        """A_adjoint(A(x))."""
        return self.A_adjoint(self.A(x))

    def solve_normal(
        self, rhs: Tensor, rho, x0: Tensor | None = None, *, tol=None, max_iter=MAX_ITER
    ):
        """Solve (A^T A + rho I) x = rhs.

        Args:
            rhs: images (B, C, H, W). Gradients flow through the solution to rhs.
            rho: > 0, one number or one per item (B,).
            x0: a first guess (conjugate gradients only).
            tol: relative residual at which an item stops (conjugate gradients only).
            max_iter: most iterations (conjugate gradients only); `NotConvergedWarning` where they
                do not suffice.
        """
        rho = per_item(rho, rhs)

        def matvec(x):
            return self.A_normal(x) + rho * x

        def solve(b, guess=None):
            return conjugate_gradient(
                matvec,
                b,
                x0=guess,
                precondition=self._preconditioner(rhs, rho),
                tol=tol,
                max_iter=max_iter,
            )

        return _SymmetricSolve.apply(rhs, solve, x0)

    def _preconditioner(self, like: Tensor, rho: Tensor):
        """A cheap approximate inverse of A^T A + rho I: images -> images (default: none)."""

    def prox_l2(self, z: Tensor, y: Tensor, gamma) -> Tensor:
        """argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2."""
        step = per_item(gamma, z)
        return self.solve_normal(self.A_adjoint(y) + z / step, 1 / step.flatten(), x0=z)

    @torch.no_grad()
    def norm_squared(self, x_shape, iters: int = 30) -> float:
        """||A||^2, the largest eigenvalue of A^T A, from below by power iteration."""
        device = next((b.device for b in self.buffers()), None)
        x = torch.randn((1, *x_shape[1:]), generator=torch.Generator().manual_seed(0)).to(device)
        value = 0.0
        for _ in range(iters):
            x = x / x.norm().clamp_min(1e-30)
            x = self.A_normal(x)
            value = float(x.norm())
        return value

    def select(self, idx: Tensor) -> LinearPhysics:
        """The operator, and the noise level, of the items idx of a batch."""
        if not isinstance(getattr(self.noise, "sigma", None), Tensor):
            return self
        return self._copy(noise=self.noise.select(idx))

    def _copy(self, **changes) -> LinearPhysics:
        """A shallow copy with other buffers or submodules; nothing is computed again."""
        other = copy.copy(self)
        other._buffers, other._modules = dict(self._buffers), dict(self._modules)
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    def check_image(self, x: Tensor, size: tuple[int, int] | None = None) -> None:
        """Raise ShapeError unless x is a batch of images that this operator can measure."""
        if self.image_shape is not None:
            if tuple(x.shape[1:]) != self.image_shape:
                raise ShapeError(
                    f"{type(self).__name__} measures images of shape (B, {_text(self.image_shape)})"
                    f", got {tuple(x.shape)}"
                )
        elif x.ndim != 4:
            raise ShapeError(
                f"{type(self).__name__} measures images of shape (B, C, H, W), got {tuple(x.shape)}"
            )
        if size is not None and tuple(x.shape[-2:]) != tuple(size):
            raise ShapeError(
                f"{type(self).__name__} was made for images of {size[0]}x{size[1]} pixels, got "
                f"{x.shape[-2]}x{x.shape[-1]}"
            )

    def check_data(self, y: Tensor, shape: tuple[int | None, ...]) -> None:
        """Raise ShapeError unless one measurement has this shape (None: any size)."""
        got = tuple(y.shape[1:])
        if len(got) != len(shape) or any(
            s not in (None, g) for s, g in zip(shape, got, strict=True)
        ):
            raise ShapeError(
                f"{type(self).__name__} gives measurements of shape (B, {_text(shape)}), got "
                f"{tuple(y.shape)}"
            )


class TightFrame(LinearPhysics):
    """An operator with A A^T = frame * I, so that A^T A is a multiple of a projection."""

    direct = True
    frame = 1.0

    def A_dagger(self, y):
        return self.A_adjoint(y) / self.frame

    def solve_normal(self, rhs, rho, x0=None, *, tol=None, max_iter=MAX_ITER):
        rho = per_item(rho, rhs)
        seen = self.A_normal(rhs) / self.frame
        return (rhs - seen) / rho + seen / (self.frame + rho)


class _SymmetricSolve(torch.autograd.Function):
    """x = M^-1 rhs for a symmetric M; the gradient is another solve, not an unrolled one."""

    @staticmethod
    def forward(ctx, rhs, solve, x0):
        ctx.solve = solve
        return solve(rhs, x0)

    @staticmethod
    def backward(ctx, grad):
        return _SymmetricSolve.apply(grad, ctx.solve, None), None, None


def per_item(value, like: Tensor) -> Tensor:
    """A positive number, or one per item, as a tensor that broadcasts against ``like``."""
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if value.ndim == 0:
        if not bool(value > 0):
            raise UsageError(f"the weight rho or gamma must be > 0, got {float(value)}")
        value = value.expand(1)
    elif value.numel() not in (1, like.shape[0]):
        raise ShapeError(f"{value.numel()} weights for a batch of {like.shape[0]} items")
    return value.reshape(-1, *[1] * (like.ndim - 1))


def _text(shape) -> str:
    return ", ".join("any" if s is None else str(s) for s in shape)
