"""Do draws follow a density of which only the score is known?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError, ShapeError
from .draws import own


@dataclass(frozen=True)
class Stein:
    """The squared kernel Stein discrepancy (an unbiased estimate: around 0 where the draws follow
    the density), and the p-value that they do."""

    value: float
    p_value: float


def stein_discrepancy(
    draws,
    score,
    *,
    scale=None,
    persistence: float = 0.0,
    resamples: int = 1000,
    generator: torch.Generator | None = None,
) -> Stein:
    """Kernel Stein discrepancy with the inverse multiquadric kernel (Gorham & Mackey 2017, arXiv
    1703.01717), tested by the wild bootstrap (Chwialkowski et al. 2016, arXiv 1602.02964).

    Compares draws of one posterior with its exact score, so it finds a chain that has settled in
    the wrong place. It misses modes without draws.

    Args:
        draws: (n, ...).
        score: grad log p at them (n, ...); that of a prior's score plus A^T (y - A u) / s^2 is the
            posterior's.
        scale: length of each coordinate (...), by default their standard deviations. Differences are
            divided by it and by sqrt(D), so that typical distances are about 1.
        persistence: probability that neighbours keep their sign in the bootstrap, beyond chance; 0
            for independent draws. Of a chain whose draws are worth one in k independent ones, about
            1 - 1 / k.
        resamples: of the bootstrap.

    Example:
        >>> from innverse.metrics.calibration import stein_discrepancy
        >>> u = torch.randn(200, 4)
        >>> right, shifted = stein_discrepancy(u, -u), stein_discrepancy(u + 0.5, -u - 0.5)
        >>> right.p_value > 0.01, shifted.p_value < 0.01
        (True, True)
    """
    draws, score = (torch.as_tensor(t).double().flatten(1) for t in (draws, score))
    if draws.shape != score.shape or draws.shape[0] < 2:
        raise ShapeError(
            f"draws {tuple(draws.shape)} and their scores {tuple(score.shape)} must be alike, and "
            "at least 2"
        )
    if not bool(draws.isfinite().all() and score.isfinite().all()):
        raise InputError("the draws or their scores contain NaN or infinite values")
    n, d = draws.shape
    length = draws.std(0) if scale is None else torch.as_tensor(scale).double().flatten()
    length = length.clamp_min(1e-300) * d**0.5
    kernel = _stein_kernel(draws / length, score * length)
    kernel.fill_diagonal_(0)
    value = float(kernel.sum()) / (n * (n - 1))
    g = own(generator)
    signs = _signs(resamples, n, persistence, g)
    null = ((signs @ kernel) * signs).sum(1) / (n * (n - 1))
    return Stein(value, float(1 + (null >= value).sum()) / (1 + resamples))


def _stein_kernel(x: Tensor, s: Tensor) -> Tensor:
    """The Langevin Stein operator on both sides of k(x, x') = (1 + |x - x'|^2)^-1/2; (n, n)."""
    d = x.shape[1]
    r2 = torch.cdist(x, x).square()
    base = 1 + r2
    # s_i . (x_i - x_j), and the other way round
    along = (s * x).sum(1, keepdim=True) - s @ x.T
    both = along + along.T
    return (
        (s @ s.T) * base.rsqrt()
        + both * base.pow(-1.5)
        + d * base.pow(-1.5)
        - 3 * r2 * base.pow(-2.5)
    )


def _signs(count: int, n: int, persistence: float, g: torch.Generator) -> Tensor:
    """(count, n) of +-1; neighbours keep their sign with probability (1 + persistence) / 2."""
    if not 0 <= persistence < 1:
        raise InputError(f"persistence={persistence!r}: give a number from 0 to below 1")
    turn = torch.rand(count, n, generator=g, dtype=torch.float64) < (1 - persistence) / 2
    turn[:, 0] = torch.rand(count, generator=g) < 0.5
    return 1 - 2 * (turn.long().cumsum(1) % 2).double()
