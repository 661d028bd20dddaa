"""The curvature of a negative log-posterior, inverted: where searches in image space begin to aim.

    M^-1 = (A^T A / s^2 + I / sigma^2)^-1

The first term is the curvature of the misfit, the second the most that a density of anything plus
N(0, sigma^2 I) is curved. Its inverse costs no evaluation of the prior.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..shapes import wide
from .problem import Problem

_TOLERANCE = 0.1  # of conjugate gradients: a direction need not be exact


def inverse_curvature(
    problem: Problem, x: Tensor, sigma: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """``precondition(r, idx)`` of `innverse.optim.lbfgs`, for padded images x (B, C, H, W).

    An operator that is not linear is replaced by its derivative at x. Where nothing is measured, in the
    padding, M is I / sigma^2.
    """
    physics = problem.physics.at(problem.crop(x))
    square = problem.noise_level().square()
    rho = square / sigma**2

    @torch.no_grad()
    def multiply(r: Tensor, idx: Tensor) -> Tensor:
        inside = problem.crop(r)
        found = sigma**2 * r
        solved = physics.select(idx).solve_normal(inside, rho[idx], tol=_TOLERANCE)
        found[..., : inside.shape[-2], : inside.shape[-1]] = wide(square[idx], inside) * solved
        return found

    return multiply
