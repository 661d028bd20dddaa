"""One step of Hamiltonian Monte Carlo for many chains at once (Duane et al. 1987; Neal 2011)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .metric import Metric
from .target import Point, Target

_DIVERGED = 1000.0  # error of the energy, in nats, from which a trajectory counts as diverged


@dataclass
class Move:
    """Where chains went; the probability with which they were to (N,); who diverged (N,)."""

    point: Point
    acceptance: Tensor
    diverged: Tensor


def leapfrog(target: Target, metric: Metric, point: Point, p: Tensor, step: Tensor, n: int):
    """``n`` leapfrog steps of size ``step`` (N,) from ``point`` with momenta p."""
    step = step.view(-1, 1, 1, 1)
    for _ in range(n):
        p = p + 0.5 * step * point.gradient
        point = target.at(point.u + step * metric.velocity(p))
        p = p + 0.5 * step * point.gradient
    return point, p


def move(
    target: Target, metric: Metric, point: Point, p: Tensor, uniform: Tensor, step: Tensor, n: int
) -> Move:
    """Follow the trajectory with momenta p, and accept its end with probability min(1, e^-error).

    ``uniform`` (N,) in [0, 1) decides. Energies that are not finite are never accepted.
    """
    before = metric.kinetic(p) - point.log_p
    end, p = leapfrog(target, metric, point, p, step, n)
    error = metric.kinetic(p) - end.log_p - before
    acceptance = (-error).clamp(max=0).exp().nan_to_num(0.0)
    return Move(point.where(uniform < acceptance, end), acceptance, ~(error < _DIVERGED))
