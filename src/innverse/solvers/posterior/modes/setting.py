"""What chains of a problem begin with, their target and the scale of its metric, and how they move."""

from __future__ import annotations

import torch
from torch import Tensor

from ....physics import PoissonNoise
from ....protocols import noise_range
from ....seeding import stream
from ...problem import Problem
from ..hmc import Move, move
from ..likelihood import poisson
from ..metric import Kinetic, steepest_scale
from ..randomness import Streams
from ..target import Point, Target

_JITTER = 0.4  # of the number of leapfrog steps, so that no period of the target is met


def target_of(problem: Problem, density, each: int) -> Target:
    """The posterior of ``each`` chains of every item, an item's side by side."""
    items = torch.arange(problem.batch, device=problem.y.device).repeat_interleave(each)
    physics, y, level = problem.physics.select(items), problem.y[items], problem.noise_level()
    counts = None
    if type(problem.model) is PoissonNoise and problem.given is not None:
        given, operator = problem.given
        counts = poisson(operator.select(items), given[items], problem.model.gain)
    return Target(density, physics, y, level[items], problem.crop, counts)


def level_of(density) -> float | None:
    """The noise level of a prior that is taken at one; None of a density without levels."""
    level = getattr(density, "c", None)
    return None if level is None or noise_range(density) is None else float(level)


def scale_of(density, level: float | None, u: Tensor) -> Tensor:
    """The metric's scale at each u (N,): the noise level of the prior, or 1 / sqrt of the largest
    curvature of a density without levels."""
    return steepest_scale(density, u) if level is None else torch.full((len(u),), level).to(u)


def transition(
    target: Target,
    metric: Kinetic,
    point: Point,
    streams: Streams,
    k: int,
    step: Tensor,
    steps: int,
) -> Move:
    """The k-th transition, of ``steps`` leapfrog steps of size ``step`` (N,)."""
    of_data = streams.normal(tuple(target.y.shape[1:]), k, "data")
    of_image = streams.normal(tuple(point.u.shape[1:]), k, "image")
    p = metric.momenta(of_data, of_image)
    return move(target, metric, point, p, streams.uniform(k, "accept"), step, steps)


def length(steps: int, k: int, seed: int) -> int:
    """The number of leapfrog steps of transition k, the same for all chains."""
    u = 2 * float(torch.rand((), generator=stream(seed, k, "length"))) - 1
    return max(1, round(steps * (1 + _JITTER * u)))
