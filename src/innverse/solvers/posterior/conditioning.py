"""How stiff a posterior is in its metric: the eigenvalues of M^-1 H by 20 Lanczos steps.

H is the curvature of -log p(u | y) where a chain stands. The step of a trajectory is bounded by the
largest eigenvalue, and its length by the widest direction: it needs about the square root of the
condition number in steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .adapt import ROUND

if TYPE_CHECKING:
    from .metric import Kinetic
    from .target import Target

STEPS = 20
_MOVE = 0.03  # times the fourth root of the dimension: how far differences of gradients are taken


def ritz(
    curvature: Callable[[Tensor], Tensor], metric: Kinetic, p: Tensor, steps: int = STEPS
) -> Tensor:
    """Eigenvalues of M^-1 H as far as ``steps`` of the Lanczos method see them (N, steps), rising.

    In the inner product of M^-1, where H M^-1 is symmetric (Golub & Van Loan, chapter 10).

    Args:
        curvature: v -> H v for (N, ...).
        p: momenta to begin with.
    """

    def normalised(q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        norm = (2 * metric.kinetic(q)).clamp_min(0).sqrt()
        by = norm.clamp_min(1e-30).view(-1, *[1] * (q.dim() - 1))
        return q / by, metric.velocity(q / by), norm

    q, v, _ = normalised(p)
    last, beta = torch.zeros_like(q), torch.zeros(len(q)).to(q)
    diagonal, beside = [], []
    for _ in range(min(steps, p[0].numel())):
        w = curvature(v)
        alpha = (v * w).flatten(1).sum(1)
        w = w - _beside(alpha, w) * q - _beside(beta, w) * last
        last, (q, v, beta) = q, normalised(w)
        diagonal.append(alpha)
        beside.append(beta)
    t = torch.diag_embed(torch.stack(diagonal, 1).double())
    if len(diagonal) > 1:
        off = torch.diag_embed(torch.stack(beside[:-1], 1).double(), 1)
        t = t + off + off.mT
    return torch.linalg.eigvalsh(t.nan_to_num(0.0, 0.0, 0.0))


def curvatures(target: Target, metric: Kinetic, u: Tensor, p: Tensor) -> Tensor:
    """Smallest and largest eigenvalue (N, 2) of M^-1 H at u, from differences of gradients.

    Costs 40 evaluations. Where the density is not log-concave the smallest is negative.
    """
    move = _MOVE * u[0].numel() ** 0.25

    def curvature(v: Tensor) -> Tensor:
        change = target.at(u - move * v).gradient - target.at(u + move * v).gradient
        return change / (2 * move)

    values = ritz(curvature, metric, p)
    return torch.stack((values.amin(1), values.amax(1)), 1).to(u)


def condition(extremes: Tensor, time: Tensor) -> Tensor:
    """How many times stiffer the stiffest direction is than those that trajectories are made for.

    Args:
        extremes: eigenvalues of M^-1 H (N, 2).
        time: of trajectories, adapted (N,): where the density is not log-concave its smallest
            eigenvalue says nothing of how wide it is, and this does.
    """
    return extremes[:, 1] * (time / ROUND).square()


def _beside(values: Tensor, images: Tensor) -> Tensor:
    return values.view(-1, *[1] * (images.dim() - 1))
