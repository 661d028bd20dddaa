"""One transition of the sampler on a problem, and its mutants."""

from __future__ import annotations

import torch
from torch import Tensor

from innverse.solvers.posterior.adapt import DualAveraging
from innverse.solvers.posterior.choose_metric import metric_for
from innverse.solvers.posterior.hmc import move
from innverse.solvers.posterior.likelihood import likelihood_of
from innverse.solvers.posterior.target import Point, Target
from innverse.solvers.problem import Problem

LEAPFROG = 8  # steps of a transition, on average


class Kernel:
    """Transitions of N chains with the posteriors of N measurements, as `solve` makes them.

    Args:
        step: of the leapfrog.
        mutant: None; "accepts" every move; "momenta" from N(0, I), while the velocity stays M^-1 p.
    """

    def __init__(self, density, op, y: Tensor, shape, step: float, g, mutant: str | None = None):
        problem = Problem.build(y, op, density, image_shape=shape)
        likelihood = likelihood_of(problem, torch.arange(len(y)))
        measured = problem.physics, problem.y, problem.noise_level()
        self.target = Target(density, *measured, likelihood=likelihood)
        like, scale = y.new_zeros(len(y), *shape), torch.full((len(y),), float(density.c))
        self.metric = metric_for(self.target, like)(self.target, scale)
        self.step, self.g, self.mutant = step, g, mutant
        self.acceptance: list[Tensor] = []

    def at(self, u: Tensor) -> Point:
        return self.target.at(u)

    def __call__(self, point: Point, step: Tensor | None = None) -> Point:
        def normal(like):
            return torch.randn(like.shape, generator=self.g)

        n = round(LEAPFROG * (0.6 + 0.8 * float(torch.rand((), generator=self.g))))
        p = self.metric.momenta(normal(self.target.y), of_image := normal(point.u))
        p = of_image if self.mutant == "momenta" else p
        uniform = torch.rand(len(p), generator=self.g) * (self.mutant != "accepts")
        step = torch.full((len(p),), self.step) if step is None else step
        made = move(self.target, self.metric, point, p, uniform, step, n)
        self.acceptance.append(made.acceptance)
        return made.point

    def adapted(self, u: Tensor, transitions: int = 40) -> float:
        """A step that is accepted as often as it should be: the median of what dual averaging finds
        for each of these chains."""
        adapt, point = DualAveraging(torch.full((len(u),), 0.2)), self.at(u)
        for _ in range(transitions):
            point = self(point, adapt.step)
            adapt.update(self.acceptance[-1])
        return float(adapt.final.median())
