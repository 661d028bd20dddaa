"""What chains of a problem begin with: their target, the level of its prior, how far they go."""

from __future__ import annotations

import torch

from ...problem import Problem
from ..likelihood import likelihood_of
from ..randomness import length_factor
from ..target import Target


def target_of(problem: Problem, density, each: int) -> Target:
    """The posterior of ``each`` chains of every item, an item's side by side."""
    items = torch.arange(problem.batch, device=problem.y.device).repeat_interleave(each)
    physics, y, level = problem.physics.select(items), problem.y[items], problem.deviation()
    likelihood = likelihood_of(problem, items)
    return Target(density, physics, y, level[items], problem.crop, likelihood)


def length(steps: int, k: int, seed: int) -> int:
    """The number of leapfrog steps of transition k, the same for all chains."""
    return max(1, round(steps * length_factor(seed, k)))
