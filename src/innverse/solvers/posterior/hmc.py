"""One step of Hamiltonian Monte Carlo for many chains at once (Duane et al. 1987; Neal 2011)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .metric import Kinetic
from .target import Point, Target

_DIVERGED = 1000.0  # error of the energy, in nats, from which a trajectory counts as diverged


@dataclass
class Move:
    """Where chains went; the probability with which they were to (N,); who diverged (N,).

    ``distance`` (N,) is ||u' - u||^2 between both ends of the trajectory, accepted or not, and
    ``growth`` its derivative by time at the end.
    """

    point: Point
    acceptance: Tensor
    diverged: Tensor
    distance: Tensor
    growth: Tensor


def leapfrog(
    target: Target, metric: Kinetic, point: Point, p: Tensor, step: Tensor, n: int | Tensor
):
    """``n`` leapfrog steps of size ``step`` (N,) from ``point`` with momenta p.

    With n (N,) chains stand still when theirs are done.
    """
    last = int(n) if isinstance(n, int) else int(n.max())
    for k in range(last):
        now = step if isinstance(n, int) else torch.where(k < n, step, 0)
        now = now.view(-1, *[1] * (p.dim() - 1))
        p = p + 0.5 * now * point.gradient
        point = target.at(point.u + now * metric.velocity(p))
        p = p + 0.5 * now * point.gradient
    return point, p


def move(
    target: Target,
    metric: Kinetic,
    point: Point,
    p: Tensor,
    uniform: Tensor,
    step: Tensor,
    n: int | Tensor,
) -> Move:
    """Follow the trajectory with momenta p, and accept its end with probability min(1, e^-error).

    ``uniform`` (N,) in [0, 1) decides. Energies that are not finite are never accepted.
    """
    before = metric.kinetic(p) - point.log_p
    end, p = leapfrog(target, metric, point, p, step, n)
    velocity = metric.velocity(p)
    error = 0.5 * (p * velocity).flatten(1).sum(1) - end.log_p - before
    acceptance = (-error).clamp(max=0).exp().nan_to_num(0.0)
    jump = (end.u - point.u).flatten(1)
    return Move(
        point.where(uniform < acceptance, end),
        acceptance,
        ~(error < _DIVERGED),
        jump.square().sum(1),
        2 * (jump * velocity.flatten(1)).sum(1),
    )
