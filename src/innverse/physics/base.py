"""The contract of a measurement operator."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..errors import ShapeError, UsageError, first_line
from ..shapes import wide
from ..showing.shown import Shown
from .cg import MAX_ITER, conjugate_gradient, dot, least_squares
from .foreign_noise import as_noise
from .noise import GaussianNoise, NoiseModel, NoNoise

GREY = (
    0.5  # at which images are taken back to, by operators that are not linear, before any is known
)


_NONE: Mapping[str, Any] = MappingProxyType({})


class LinearPhysics(Shown, nn.Module):
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
        measures_images: whether a measurement is itself a picture (B, C, h, w) on [0, 1], to be
            shown and compared with one. A sinogram or k-space of that shape is not.
        acts_per_channel: whether channel c of the image gives channel c of the measurement, each in
            the same way.
        is_diagonal: whether A multiplies each pixel by a number, see `diagonal`.
        linear: whether A is (all are but `Nonlinear`, and what is made of one).
        image_range: what a prior of images on [0, 1] sees as black and white, where images are
            signed: `innverse.solve` takes it for ``x_range``. None: 0 and 1.
        advice: options of "pnp" that ``method="auto"`` takes, of operators that a scanner's file gave,
            estimated or idealised: how the prior is held. Where they are, what nothing was measured of
            lies outside of the body.
        items: of how many items its masks or kernels are; 1 serves any batch.

    Example:
        >>> class Double(LinearPhysics):
        ...     def A(self, x):
        ...         return 2 * x
        ...
        ...     def A_adjoint(self, y):
        ...         return 2 * y
        >>> check_adjoint(Double(), torch.rand(1, 1, 4, 4)) < 1e-3
        True
    """

    image_shape: tuple[int, ...] | None = None
    noise: NoiseModel
    complex_image = False
    direct = False
    measures_images = False
    acts_per_channel = False
    is_diagonal = False
    linear = True
    image_range: tuple[float, float] | None = None
    advice: Mapping[str, Any] = _NONE
    items = 1

    def __init__(self, image_shape=None, noise=None):
        super().__init__()
        self.image_shape = None if image_shape is None else checked_shape(image_shape)
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
    def known_shape(self) -> tuple[int, ...]:
        """`image_shape`, of an operator that has one."""
        if self.image_shape is None:
            raise UsageError(f"{type(self).__name__} does not know the shape of its images")
        return self.image_shape

    @property
    def sigma(self) -> float | Tensor | None:
        """Standard deviation of the noise; None without noise."""
        return self.noise.sigma

    def A_dagger(self, y: Tensor) -> Tensor:
        """The pseudo-inverse: the least-squares solution with the smallest norm.

        By iteration where there is no closed form, with `NotConvergedWarning` where it stops early.
        """
        return least_squares(self.A, self.A_adjoint, y)

    def classical(self, y: Tensor) -> Tensor:
        """The picture that one looks at without a prior; `A_dagger` where there is nothing usual."""
        return self.A_dagger(y)

    def as_picture(self, x: Tensor) -> Tensor:
        """What one looks at of images (B, C, H, W): themselves, or the magnitude of complex ones, real
        parts first, (B, 1, H, W)."""
        return torch.linalg.vector_norm(x, dim=1, keepdim=True) if self.complex_image else x

    def doubts(self, y: Tensor) -> list[str]:
        """What in a measurement speaks against this operator, in words."""
        return []

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Product of v with the Jacobian of A at x: for a linear A, A_adjoint(v)."""
        return self.at(x).A_adjoint(v)

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
        how: dict = {
            "precondition": self._preconditioner(rhs, rho),
            "tol": tol,
            "max_iter": max_iter,
        }

        def solve(b, guess=None):
            return conjugate_gradient(lambda x: self.A_normal(x) + rho * x, b, x0=guess, **how)

        return _SymmetricSolve.apply(rhs, solve, x0)

    def _preconditioner(self, like: Tensor, rho: Tensor):
        """A cheap approximate inverse of A^T A + rho I: images -> images (default: none)."""

    def prox_l2(self, z: Tensor, y: Tensor, gamma) -> Tensor:
        """argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2."""
        step = per_item(gamma, z)
        return self.solve_normal(self.A_adjoint(y) + z / step, 1 / step.flatten(), x0=z)

    def diagonal(self, x: Tensor) -> Tensor:
        """d with A x = d * x, where `is_diagonal`; broadcasts against x."""
        raise NotImplementedError

    def keep_measured(self, y: Tensor) -> Tensor:
        """y with zeros wherever nothing was measured, whatever it holds there."""
        return y

    def norm_squared(self, x_shape, iters: int = 30) -> float:
        """||A||^2, the largest eigenvalue of A^T A; of several operators, the largest of all."""
        return float(self.norms_squared(x_shape, iters).max())

    @torch.no_grad()
    def norms_squared(self, x_shape, iters: int = 30) -> Tensor:
        """||A||^2 of each of the ``items`` operators, (items,).

        By ``iters`` steps of the Lanczos method, which approaches it from below (Golub & Van Loan,
        chapter 10), unless a subclass knows a closed form.

        Args:
            x_shape: shape of a batch of images, or one, whose dtype and device are then taken.
        """
        if isinstance(x_shape, Tensor):
            dtype, device, x_shape = x_shape.real.dtype, x_shape.device, x_shape.shape
        else:
            dtype, device = torch.get_default_dtype(), device_of(self)
        generator = torch.Generator().manual_seed(0)
        v = torch.randn((1, *x_shape[1:]), generator=generator).to(device, dtype)
        v = v.repeat(self.items, *[1] * (v.ndim - 1))
        v, last, beta = v / dot(v, v).sqrt(), torch.zeros_like(v), torch.zeros(())
        diagonal, beside = [], []
        for _ in range(min(iters, v[0].numel())):
            w = self.A_normal(v) - beta * last
            alpha = dot(w, v)
            w = w - alpha * v
            beta = dot(w, w).sqrt()
            diagonal.append(alpha.flatten())
            beside.append(beta.flatten())
            last, v = v, w / beta.clamp_min(1e-30)
        t = torch.diag_embed(torch.stack(diagonal, 1).double())
        if len(diagonal) > 1:
            off = torch.diag_embed(torch.stack(beside[:-1], 1).double(), 1)
            t = t + off + off.mT
        # a NaN from A must come out, and stops LAPACK
        bad = ~t.isfinite().flatten(1).all(1)
        top = torch.linalg.eigvalsh(torch.where(bad.view(-1, 1, 1), 0, t))[:, -1].clamp_min(0)
        return torch.where(bad, torch.nan, top).to(v.dtype)

    def at(self, x: Tensor) -> LinearPhysics:
        """The derivative of A at images x, one for each item: of a linear operator, itself."""
        return self

    def at_grey(self, y: Tensor) -> LinearPhysics:
        """The derivative at grey images, as many as there are measurements y; see `at`."""
        return self if self.linear else self.at(y.real.new_full((len(y), *self.known_shape), GREY))

    def on_complex(self) -> Self:
        """The operator where images are complex numbers."""
        return self

    def __matmul__(self, inner: LinearPhysics) -> Composed:
        """``B @ A`` measures with B what A gives, see `Composed`."""
        if not isinstance(inner, LinearPhysics):
            raise UsageError(
                f"{name_of(self)} @ {type(inner).__name__}: only operators compose, make one of it "
                "with as_physics"
            )
        return Composed(self, inner)

    def select(self, idx: Tensor) -> Self:
        """The operator, and the noise level, of the items idx of a batch."""
        noise = self.noise.select(idx)
        return self if noise is self.noise else self._copy(noise=noise)

    def _card(self):
        from ..showing.physics import card

        return card(self)

    def _copy(self, **changes) -> Self:
        """A shallow copy with other buffers or submodules; nothing is computed again."""
        other = copy.copy(self)
        other._buffers, other._modules = dict(self._buffers), dict(self._modules)
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    def check_image(self, x: Tensor, size: tuple[int, ...] | None = None) -> None:
        """Raise ShapeError unless x is a batch of images that this operator can measure."""
        known = self.image_shape
        if x.ndim != 4 if known is None else tuple(x.shape[1:]) != known:
            wanted = "C, H, W" if known is None else _text(known)
            raise ShapeError(
                f"{type(self).__name__} measures images of shape (B, {wanted}), got {tuple(x.shape)}"
            )
        if size is not None and tuple(x.shape[-2:]) != tuple(size):
            raise ShapeError(
                f"{type(self).__name__} was made for images of {size[0]}x{size[1]} pixels, got "
                f"{x.shape[-2]}x{x.shape[-1]}"
            )

    def check_data(
        self, y: Tensor, shape: tuple[int | None, ...], does: str = "gives measurements"
    ) -> None:
        """Raise ShapeError unless one measurement has this shape (None: any size)."""
        got = tuple(y.shape[1:])
        if len(got) != len(shape) or any(
            s not in (None, g) for s, g in zip(shape, got, strict=True)
        ):
            raise ShapeError(
                f"{type(self).__name__} {does} of shape (B, {_text(shape)}), got {tuple(y.shape)}"
            )


class Wrapper(LinearPhysics):
    """An operator made of another one, ``physics``, item by item."""

    physics: LinearPhysics

    def __init__(self, physics: LinearPhysics, image_shape=None, noise=None):
        super().__init__(image_shape, noise)
        self.physics = physics

    @property
    def items(self) -> int:
        return self.physics.items

    def select(self, idx):
        return self._copy(physics=self.physics.select(idx), noise=self.noise.select(idx))


class Composed(LinearPhysics):
    """(B A) x = B(A x): ``B @ A`` measures with B what A gives.

    Its noise is that of B. Gaussian noise of A is taken over where B leaves it independent and equal
    (B B^T is a multiple of the identity on what B measures: a mask, random rows, a Fourier transform).
    With an operator that is not linear the composition is none either, and `at` is the chain rule.

    Args:
        outer: B.
        inner: A. It should know the shape of its images: then it is checked that B takes what A gives.

    Raises:
        ShapeError: B does not take what A gives. UsageError: noise of A that B would correlate.

    Example:
        >>> small = Downsampling(2) @ Blur(gaussian_kernel(1.0))
        >>> small.A(torch.rand(1, 1, 8, 8)).shape
        torch.Size([1, 1, 4, 4])
        >>> check_adjoint(small, (2, 1, 8, 8)) < 1e-4
        True
    """

    def __init__(self, outer: LinearPhysics, inner: LinearPhysics):
        super().__init__(inner.image_shape)
        middle = None
        if self.image_shape is not None:
            like = torch.zeros(max(1, inner.items), *self.image_shape, device=device_of(inner))
            with torch.no_grad():
                middle = inner.A(like)
            outer = outer.on_complex() if middle.is_complex() else outer
            self._check_fits(outer, inner, middle)
        self.outer, self.inner = outer, inner
        self.linear = outer.linear and inner.linear
        self.measures_images = outer.measures_images and inner.measures_images
        self.acts_per_channel = outer.acts_per_channel and inner.acts_per_channel
        self.is_diagonal = self.direct = outer.is_diagonal and inner.is_diagonal
        self.noise = _carried(outer, inner, middle)

    @staticmethod
    def _check_fits(outer: LinearPhysics, inner: LinearPhysics, middle: Tensor) -> None:
        given = tuple(middle.shape[1:])
        if outer.image_shape not in (None, given):
            raise ShapeError(
                f"{name_of(outer)} measures images of shape {outer.image_shape}, but "
                f"{name_of(inner)} gives {given}"
            )
        try:
            with torch.no_grad():
                outer.A(middle.expand(max(len(middle), outer.items), *given))
        except (ShapeError, RuntimeError) as error:
            raise ShapeError(
                f"{name_of(outer)} cannot measure what {name_of(inner)} gives, {given}: "
                f"{first_line(error)}"
            ) from None

    @property
    def items(self) -> int:
        return max(self.outer.items, self.inner.items)

    @property
    def name(self) -> str:
        return f"{name_of(self.outer)} @ {name_of(self.inner)}"

    def A(self, x: Tensor) -> Tensor:
        return self.outer.A(self.inner.A(x))

    def A_adjoint(self, y: Tensor) -> Tensor:
        if not self.linear:
            return self.at_grey(y).A_adjoint(y)
        return self.inner.A_adjoint(self.outer.A_adjoint(y))

    def forward(self, x, generator=None):
        return self.keep_measured(super().forward(x, generator))

    def diagonal(self, x):
        return self.outer.diagonal(x) * self.inner.diagonal(x)

    def A_dagger(self, y):
        if not self.is_diagonal:
            return super().A_dagger(y)
        d = self.diagonal(y)
        return torch.where(d != 0, y / torch.where(d != 0, d, 1), 0)

    def solve_normal(self, rhs, rho, x0=None, **options):
        if not self.is_diagonal:
            return super().solve_normal(rhs, rho, x0, **options)
        return rhs / (self.diagonal(rhs).square() + per_item(rho, rhs))

    def keep_measured(self, y):
        return self.outer.keep_measured(y)

    def at(self, x: Tensor) -> LinearPhysics:
        if self.linear:
            return self
        outer = self.outer.at(self.inner.A(x))
        return self._copy(outer=outer, inner=self.inner.at(x), linear=True)

    def select(self, idx):
        outer, inner = self.outer.select(idx), self.inner.select(idx)
        own = self.noise is self.outer.noise
        noise = outer.noise if own else self.noise.select(idx)
        return self._copy(outer=outer, inner=inner, noise=noise)


def _carried(outer: LinearPhysics, inner: LinearPhysics, middle: Tensor | None) -> NoiseModel:
    """The noise of ``outer @ inner``."""
    own, before = outer.noise, inner.noise
    if before.sigma is None and not before.depends_on_signal:
        return own
    level = before.sigma
    if isinstance(before, GaussianNoise) and isinstance(level, float) and middle is not None:
        scale = _frame(outer, middle) if outer.linear else None
        further = own.sigma if isinstance(own, GaussianNoise) else 0.0
        if scale is not None and isinstance(own, (NoNoise, GaussianNoise)):
            return GaussianNoise((scale * level**2 + torch.as_tensor(further).square()).sqrt())
    raise UsageError(
        f"the noise of {name_of(inner)} does not stay independent and equal behind {name_of(outer)}: "
        f"build {name_of(inner)} without noise, and {name_of(outer)} with it"
    )


@torch.no_grad()
def _frame(physics: LinearPhysics, like: Tensor) -> float | None:
    """c with A A^T = c I on what is measured; None where there is none."""
    y = physics.A(like)
    v = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0)).to(y)
    w = physics.A(physics.A_adjoint(v))
    v = torch.where(w != 0, v, 0)
    c = (w * v.conj()).sum().real / v.abs().square().sum().clamp_min(1e-30)
    return float(c) if bool((w - c * v).abs().max() <= 1e-4 * c) else None


class TightFrame(LinearPhysics):
    """An operator with A A^T = frame * I, so that A^T A is a multiple of a projection."""

    direct = True
    frame = 1.0

    def A_dagger(self, y):
        return self.A_adjoint(y) / self.frame

    def norms_squared(self, x_shape, iters=30):
        return torch.full((1,), float(self.frame))

    def solve_normal(self, rhs, rho, x0=None, **options):
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
    def backward(ctx, *grads):
        return _SymmetricSolve.apply(grads[0], ctx.solve, None), None, None


def per_item(value, like: Tensor) -> Tensor:
    """A positive number, or one per item, as a tensor that broadcasts against ``like``."""
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if value.ndim == 0:
        if not bool(value > 0):
            raise UsageError(f"the weight rho or gamma must be > 0, got {float(value)}")
        value = value.expand(1)
    elif value.numel() not in (1, like.shape[0]):
        raise ShapeError(f"{value.numel()} weights for a batch of {like.shape[0]} items")
    return wide(value, like)


def name_of(physics: object) -> str:
    """What an operator, of whatever class, is called in messages."""
    return getattr(physics, "name", None) or type(physics).__name__


def device_of(physics: object) -> torch.device:
    """Where the numbers of an operator lie."""
    buffers = physics.buffers() if isinstance(physics, nn.Module) else ()
    return next((b.device for b in buffers), torch.device("cpu"))


def size_of(images: Tensor | Sequence[int]) -> tuple[int, int]:
    """Height and width of images, or of their shape."""
    height, width = (images.shape if isinstance(images, Tensor) else images)[-2:]
    return height, width


def checked_shape(shape) -> tuple[int, ...]:
    """A shape as integers; raises UsageError where a size is none."""
    try:
        sizes = tuple(int(s) for s in shape)
        whole = all(s == float(given) and s > 0 for s, given in zip(sizes, shape, strict=True))
    except (TypeError, ValueError, OverflowError):
        sizes, whole = (), False
    if not whole or not sizes:
        raise UsageError(f"image_shape must be (C, H, W), whole numbers > 0, got {shape!r}")
    return sizes


def _text(shape) -> str:
    return ", ".join("any" if s is None else str(s) for s in shape)
