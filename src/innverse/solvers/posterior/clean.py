"""Mean and spread of the clean picture x, from draws of the noisy one u = x + sigma0 e.

Let y see x only through u: y = A u + noise of covariance s^2 I - sigma0^2 A A^T, which is what
y = A x + N(0, s^2 I) is when a part of its noise is that of u. That needs s >= sigma0 ||A||. Then

    E[x | y]   = E[D(u) | y]                       D(u) = u + sigma0^2 grad log p(u; sigma0)
    Cov(x | y) = Cov D(u) + E[sigma0^2 dD/du]

(Tweedie's formula, twice). The last term needs no second derivative: integration by parts under
p(u | y) gives E[dD_i/du_i] = -E[D_i d/du_i log p(u | y)].
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...errors import UsageError
from ...physics import Blur, GaussianNoise, LinearPhysics, MatrixPhysics, Whitened, whiten
from ...physics.base import TightFrame
from ...protocols import noise_range
from ..problem import Problem
from .few_data import gram_matrix
from .likelihood import of_noise
from .target import Point, Target

_MARGIN = 1.01  # of s over sigma0 ||A||: the noise that is left must not vanish
_AMPLE = 1.02  # of the same, where the level is free


def highest_level(problem: Problem, prior) -> float | None:
    """The level at which x is asked for where none is given: the highest that the noise allows.

    The law of x does not depend on it, but the smoother the density is, the faster chains mix.
    """
    span = noise_range(prior)
    if span is None or has_own_law(problem):
        return None
    s = problem.deviation()
    norm = problem.physics.norms_squared((1, *problem.shape)).to(s).sqrt()
    return min(max(float((s / norm).min()) / _AMPLE, span[0]), span[1])


def through_noisy(problem: Problem, sigma0: float) -> Problem:
    """The problem with the noise that is left of s^2 I - sigma0^2 A A^T, divided out where it is not
    one number.

    Raises:
        UsageError: noise below sigma0 ||A||, or an operator whose A A^T has no simple form.
    """
    if has_own_law(problem):
        raise UsageError(
            "of='clean' needs Gaussian noise: take of='noisy' for counted photons and rounded values"
        )
    s = problem.deviation()
    norm = problem.physics.norms_squared((1, *problem.shape)).to(s).sqrt()
    if not bool((s >= _MARGIN * sigma0 * norm).all()):
        most = float((s / norm).min()) / _MARGIN
        raise UsageError(
            f"of='clean' needs noise of at least sigma times ||A||: take sigma={most:.2g} or less "
            "(if the prior knows it), or of='noisy'"
        )
    y, physics = _left_over(problem.y, problem.physics, s, sigma0, problem.shape)
    return dataclasses.replace(problem, y=y, physics=physics, noise=physics.sigma, model=None)


def has_own_law(problem: Problem) -> bool:
    """Whether the noise is not Gaussian: photons, values that were rounded."""
    model = problem.model
    if model is None or isinstance(model, GaussianNoise):
        return False
    return model.depends_on_signal or of_noise(model, problem.given[0]) is not None


def _left_over(y: Tensor, physics: LinearPhysics, s: Tensor, sigma0: float, shape):
    """y and its operator, so divided that the noise has one level an item."""
    if physics.is_diagonal:
        d = physics.diagonal(y)
        level = (_per_item(s, y).square() - (sigma0 * d).square()).sqrt()
        return whiten(y, physics, level.expand(y.shape))
    if isinstance(physics, TightFrame):
        return whiten(y, physics, (s.square() - sigma0**2 * physics.frame).sqrt())
    if isinstance(physics, Whitened) and physics.uniform:
        w = physics.weight.reshape(-1)[0].to(y.dtype)
        if bool((physics.weight == w).all()):
            return _left_over(y / w, physics.physics, s / w, sigma0, shape)
    one = s[0]
    if not bool((s == one).all()):
        raise UsageError("of='clean' takes one noise level for all items with this operator")
    if isinstance(physics, Blur) and physics.boundary == "circular":
        size = y.shape[-2:]
        power = physics._transfer(size, y).abs().square()
        weight = one / (one.square() - sigma0**2 * power).sqrt()
        impulse = torch.zeros(1, 1, *size, dtype=y.dtype, device=y.device)
        impulse[..., size[0] // 2, size[1] // 2] = 1
        kernel = _filtered(physics.A(impulse.expand(-1, shape[0], -1, -1)), weight)
        return whiten(_filtered(y, weight), Blur(kernel, "circular"), one)
    if isinstance(physics, MatrixPhysics) and not physics.matrix.is_complex():
        values, vectors = torch.linalg.eigh(gram_matrix(physics, y[:1]))
        weight = (vectors * (one / (one.square() - sigma0**2 * values).sqrt())) @ vectors.T
        matrix = (weight @ physics.matrix.double()).to(physics.matrix)
        return whiten((y.double() @ weight).to(y), MatrixPhysics(matrix, physics.image_shape), one)
    raise UsageError(
        f"of='clean' is for denoising, inpainting, tight frames, circular blur and matrices: the noise "
        f"that {type(physics).__name__} leaves has no simple form; take of='noisy'"
    )


def _filtered(x: Tensor, spectrum: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(x.contiguous()) * spectrum, s=x.shape[-2:])


def _per_item(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


class CleanMoments:
    """Sums over draws, from which the mean and the deviation of x follow.

    Args:
        chains: of each item.
    """

    def __init__(self, sigma0: float, chains: int):
        self.sigma0, self.chains = sigma0, chains
        self.sums = torch.zeros((), dtype=torch.float64)

    def add(self, target: Target, point: Point) -> None:
        """One draw of every chain."""
        with torch.enable_grad():
            u = point.u.detach().requires_grad_()
            (of_data,) = torch.autograd.grad(target.log_likelihood(u).sum(), u)
        slope = target.crop(point.gradient).double()
        score = target.crop(point.gradient - of_data).double()
        d = target.crop(point.u).double() + self.sigma0**2 * score
        every = torch.stack((d, d.square(), slope, d * slope))
        self.sums = self.sums + every.unflatten(1, (-1, self.chains)).sum(2)

    def result(self, draws: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x (B, C, H, W), of ``draws`` draws an item."""
        d, square, slope, product = self.sums / draws
        spread = square - d.square()
        jacobian = d * slope - product
        # what is left open given u is at least nothing
        return d, (spread + self.sigma0**2 * jacobian.clamp_min(0)).clamp_min(0).sqrt()
