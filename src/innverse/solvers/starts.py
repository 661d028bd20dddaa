"""Where a latent search may begin (Asim et al. 2020, section 4 and supplement)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import UsageError
from ..physics import LinearPhysics
from ..protocols import Encoder, Generator
from ..shapes import wide
from .problem import Problem

_CONTRAST = 0.3  # how far images stray from gray


def latent_start(
    name: str,
    problem: Problem,
    prior: Generator,
    shape: tuple[int, ...],
    seed: int = 0,
    radius: float = 1.0,
) -> Tensor:
    """A latent (B, *shape) for every item of the problem.

    ``"zero"`` the most likely latent; ``"random"`` N(0, radius^2 I); ``"sphere"`` random of length
    radius * sqrt(n); ``"pseudo_inverse"`` f(A^+ y); ``"null_space"`` f(A^+ y + x0 - A^+ A x0) with
    x0 = G(0), the most likely image corrected to explain y. A^+ is damped where noise or rounding
    would rule it. Item i draws from seed + i, whatever the batch.

    Raises:
        UsageError: an unknown name, or a prior without ``encode`` for the last two.
    """
    if name not in STARTS:
        raise UsageError(f"start={name!r}: choose one of {', '.join(STARTS)}")
    if name in _NEEDS_CODE and not isinstance(prior, Encoder):
        raise UsageError(f"start={name!r} needs a prior that encodes images: take start='zero'")
    with torch.no_grad():
        z = STARTS[name](problem, prior, shape, seed)
    return radius * z if name in RANDOM else z


def _zero(problem: Problem, prior: Generator, shape, seed) -> Tensor:
    return problem.y.real.new_zeros((problem.batch, *shape))


def _random(problem: Problem, prior: Generator, shape, seed) -> Tensor:
    return normal_of_each(problem.batch, shape, seed).to(problem.y.real)


def _sphere(problem: Problem, prior: Generator, shape, seed) -> Tensor:
    z = _random(problem, prior, shape, seed)
    return z / wide(z.flatten(1).square().mean(1).sqrt(), z)


def _pseudo_inverse(problem: Problem, prior: Encoder, shape, seed) -> Tensor:
    if not problem.physics.linear:
        return prior.encode(problem.first_guess())
    return prior.encode(_damped_inverse(problem, problem.physics, problem.y))


def _null_space(problem: Problem, prior, shape, seed) -> Tensor:
    x = problem.crop(prior.decode(_zero(problem, prior, shape, seed)))
    r = problem.y - problem.physics.A(x)
    return prior.encode(x + _damped_inverse(problem, problem.physics.at(x), r))


def _damped_inverse(problem: Problem, physics: LinearPhysics, r: Tensor) -> Tensor:
    """A^+ r by Tikhonov: the pseudo-inverse of a blur would amplify even rounding without limit."""
    rho = (problem.noise_level() / _CONTRAST).square()
    return physics.solve_normal(physics.A_adjoint(r), rho)


def normal_of_each(batch: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """N(0, I), (batch, *shape); item i draws from seed + i."""
    generators = (torch.Generator().manual_seed(seed + i) for i in range(batch))
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


STARTS: dict[str, Callable[..., Tensor]] = {
    "zero": _zero,
    "random": _random,
    "sphere": _sphere,
    "pseudo_inverse": _pseudo_inverse,
    "null_space": _null_space,
}
RANDOM = ("random", "sphere")
_NEEDS_CODE = ("pseudo_inverse", "null_space")
