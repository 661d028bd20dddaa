"""Noise that is not alike everywhere: the problem divided by its noise.

With W = s / (standard deviation of each value), W y = W A x + noise whose deviation is s everywhere,
so that a method that knows one noise level an item gives every value the weight it deserves:
||W (A x - y)||^2 / s^2 is the sum of squares of (A x - y) / deviation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError, UsageError
from ..shapes import wide
from .base import Composed, LinearPhysics, TightFrame, Wrapper, name_of, per_item
from .cg import conjugate_gradient
from .foreign_noise import as_noise
from .noise import GaussianNoise, NoiseModel, NoNoise

_SLOPE = 0.05  # how much neighbouring pixels of an image differ
_EXACT = 1e-2  # of an item's level, below which noise does not count as lower
_PHOTONS = 0.375  # of a variance, below which a pixel would rule for having caught none


class Whitened(Wrapper):
    """W A with a diagonal W >= 0; its noise has one level an item.

    Args:
        physics: A.
        weight: W, broadcasts against the measurement; one per item, or one for all (1, ...).
        noise: deviation of the noise of W y, one number or (B,).

    Example:
        >>> weight = torch.rand(1, 1, 8, 8)
        >>> check_adjoint(Whitened(Denoising(), weight), torch.rand(1, 1, 8, 8)) < 1e-6
        True
    """

    weight: Tensor

    def __init__(self, physics: LinearPhysics, weight: Tensor, noise=None):
        super().__init__(physics, physics.image_shape, noise)
        self.register_buffer("weight", weight)
        self._pixels: Tensor | None = None  # weights as pixels see them, once they are needed
        self.uniform = weight[0].numel() == 1
        closed_form = physics.is_diagonal or isinstance(physics, TightFrame)
        self.direct = physics.direct if self.uniform else closed_form
        self.measures_images, self.linear = physics.measures_images, physics.linear

    @property
    def is_diagonal(self) -> bool:
        return self.physics.is_diagonal

    def whiten(self, y: Tensor) -> Tensor:
        """W y; what has no weight may be anything."""
        w = self.weight.to(y.dtype)
        return torch.where(w > 0, w * y, 0)

    def A(self, x: Tensor) -> Tensor:
        return self.weight.to(x.dtype) * self.physics.A(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.physics.A_adjoint(self.weight.to(y.dtype) * y)

    def A_dagger(self, y):
        if self.uniform:
            return self.physics.A_dagger(y / self.weight.to(y.dtype))
        if self.is_diagonal:
            d = self.diagonal(y)
            return torch.where(d != 0, y / torch.where(d != 0, d, 1), 0)
        return super().A_dagger(y)

    def diagonal(self, x):
        return self.weight.to(x.dtype) * self.physics.diagonal(x)

    def solve_normal(self, rhs, rho, x0=None, **options):
        rho = per_item(rho, rhs)
        if self.uniform:
            square = wide(self.weight.to(rhs.dtype).square(), rhs)
            ratio = (rho / square).flatten()
            return self.physics.solve_normal(rhs / square, ratio, x0, **options)
        if self.is_diagonal:
            return rhs / (self.diagonal(rhs).square() + rho)
        if isinstance(self.physics, TightFrame):
            # (A^T D A + rho)^-1 = (1 - A^T D (rho + D A A^T)^-1 A) / rho with A A^T = frame
            seen = self.physics.A(rhs)
            d = self.weight.to(rhs.dtype).square()
            d = d / (wide(rho, seen) + d * self.physics.frame)
            return (rhs - self.physics.A_adjoint(d * seen)) / rho
        return super().solve_normal(rhs, rho.flatten(), x0, **options)

    def _preconditioner(self, like, rho):
        if not self.physics.direct:
            return self._seen_from_pixels(like, rho)
        # as if the weights were all their root mean square
        square = self.weight.to(like.dtype).square().flatten(1).mean(1).clamp_min(1e-12)
        mean = per_item(square, like)
        ratio = (rho / mean).flatten()
        return lambda r: self.physics.solve_normal(r / mean, ratio)

    def _seen_from_pixels(self, like: Tensor, rho: Tensor):
        """The preconditioner of A between the weights of the data that each pixel is seen in.

        A^T W^2 A is nearly K A^T A K with K^2 = A^T W^2 A 1 / A^T A 1 (Fessler & Booth, IEEE Trans.
        Image Processing 8, 1999).
        """
        if type(self.physics)._preconditioner is LinearPhysics._preconditioner:
            return None
        if self._pixels is None:
            one = torch.ones_like(like)
            square = self.A_normal(one) / self.physics.A_normal(one)
            self._pixels = square.nan_to_num(1, 1, 1).clamp_min(1e-6 * float(square.max())).sqrt()
        k = self._pixels
        mean = wide(k.square().flatten(1).mean(1), k)
        inner = self.physics._preconditioner(like, rho / mean)
        return None if inner is None else lambda r: inner(r / k) / k

    def norms_squared(self, x_shape, iters: int = 30):
        if self.uniform:
            square = self.weight.square().flatten().to(self.physics.norms_squared(x_shape, iters))
            return self.physics.norms_squared(x_shape, iters) * square
        return super().norms_squared(x_shape, iters)

    def keep_measured(self, y):
        return self.physics.keep_measured(y)

    def at(self, x: Tensor) -> Whitened:
        return self._copy(physics=self.physics.at(x), linear=True)

    def select(self, idx):
        chosen = super().select(idx)._copy(_pixels=None)
        return chosen._copy(weight=self.weight[idx]) if self.weight.shape[0] > 1 else chosen


def whiten(y: Tensor, physics: LinearPhysics, noise=None) -> tuple[Tensor, LinearPhysics]:
    """The measurement and its operator, divided by the noise where that is not one number an item.

    Args:
        y: real measurement (B, ...).
        physics: its operator.
        noise: level or model; None takes the operator's own.

    Returns:
        W y and a `Whitened` operator, or both as they are; the level of the operator is then one
        number, (B,) or None.

    Raises:
        InputError: NaN in the level, or nothing that was measured. ShapeError: a level that does
            not fit the measurement.

    Example:
        >>> physics = Denoising(noise=torch.full((1, 1, 8, 8), 0.1))
        >>> y, white = whiten(physics(torch.rand(1, 1, 8, 8)), physics)
        >>> white.A(torch.rand(1, 1, 8, 8)).shape
        torch.Size([1, 1, 8, 8])
    """
    model = as_noise(physics.noise if noise is None else noise)
    basis = getattr(model, "basis", None)
    if basis is not None:
        y, physics = basis.A(y), _before(basis, physics, y)
    if model.sigma is None and not model.depends_on_signal:
        return y, _with_noise(physics, model)
    std = _deviation(y, physics, model)
    if bool(std.isnan().any()):
        raise InputError("the noise level holds NaN: give a level >= 0, or Inf for what is missing")
    if std[0].numel() == 1:
        simple = not isinstance(model.sigma, Tensor) or model.sigma.ndim == 1
        return y, _with_noise(physics, model if simple else GaussianNoise(std.flatten()))
    std = std.expand(y.shape)
    seen = std.isfinite() & _seen(y, physics)
    count = seen.flatten(1).sum(1)
    if not bool((count > 0).all()):
        raise InputError("the noise level is infinite for every measured value of an item")
    least = torch.where(seen, std, torch.inf).flatten(1).amin(1)
    most = torch.where(seen, std, 0).flatten(1).amax(1)
    if bool((most - least <= 1e-6 * most).all()) and bool(std.isfinite().all()):
        return y, _with_noise(physics, GaussianNoise(most))  # one number after all
    square = torch.where(seen, std, 0).flatten(1).square().sum(1) / count
    level = wide(square.sqrt(), y)
    # values that are exact would outweigh all others without limit
    weight = torch.where(std.isfinite(), level / std.maximum(_EXACT * level), 0)
    whitened = Whitened(physics, weight, GaussianNoise(square.sqrt()))
    return whitened.whiten(y), whitened


def _before(basis: LinearPhysics, physics: LinearPhysics, y: Tensor) -> LinearPhysics:
    """``basis @ physics``; the basis alone behind an identity, since it may know closed forms."""
    if physics.is_diagonal and bool((physics.diagonal(y) == 1).all()):
        return basis
    return Composed(basis, physics._copy(noise=NoNoise()))


def divide(y: Tensor, physics: LinearPhysics, by: float) -> tuple[Tensor, Whitened]:
    """y / by with the operator A / by and its noise."""
    sigma = physics.sigma
    noise = None if sigma is None else GaussianNoise(sigma / by)
    if isinstance(physics, Whitened):
        return y / by, Whitened(physics.physics, physics.weight / by, noise)
    return y / by, Whitened(physics, y.new_full([1] * y.ndim, 1 / by), noise)


def _with_noise(physics: LinearPhysics, model: NoiseModel) -> LinearPhysics:
    return physics if physics.noise is model else physics._copy(noise=model)


def _deviation(y: Tensor, physics: LinearPhysics, model: NoiseModel) -> Tensor:
    if not model.depends_on_signal:
        return model.std(y)
    if not physics.linear:
        raise UsageError(
            f"{name_of(physics)} is not linear: its noise must not depend on the signal, give a level"
        )
    clean = _noiseless(y, physics, model)
    gain = getattr(model, "gain", None)
    return model.std(clean if gain is None else clean.clamp_min(_PHOTONS * gain))


@torch.no_grad()
def _noiseless(y: Tensor, physics: LinearPhysics, model: NoiseModel) -> Tensor:
    """What A x may be without the noise: A of the smoothest image that explains y.

    Levels taken from y itself would give most weight to what came out too dark, a bias of one
    photon; the neighbourhood of a pixel knows its brightness better.
    """
    square = model.level(y).square().clamp_min(1e-12)
    back = physics.A_adjoint(y)
    stiff = per_item(square / _SLOPE**2, back)

    def normal(x: Tensor) -> Tensor:
        return physics.A_normal(x) + stiff * (_roughness(x) + 1e-3 * x)

    return physics.A(conjugate_gradient(normal, back, tol=1e-3, max_iter=100))


def _roughness(x: Tensor) -> Tensor:
    """G^T G x with G the differences of neighbours along the last two axes."""
    out = torch.zeros_like(x)
    for dim in range(max(1, x.ndim - 2), x.ndim):
        d = x.diff(dim=dim)
        n = d.shape[dim]
        out.narrow(dim, 1, n).add_(d)
        out.narrow(dim, 0, n).sub_(d)
    return out


@torch.no_grad()
def _seen(y: Tensor, physics: LinearPhysics) -> Tensor:
    """Which values of y are measured at all."""
    like = physics.A_adjoint(y)
    probe = torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
    return physics.A(probe) != 0
