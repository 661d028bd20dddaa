"""What is not known of a measurement, and is drawn: its noise level, a parameter of its operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ....physics import LinearPhysics
from ...problem import Problem
from ..randomness import Streams
from ..target import Target
from .constant import measured

Bounds = tuple[float, float]

_ACCEPTED = 0.44  # of the best random walk in one dimension (Roberts, Gelman & Gilks 1997)
_FIRST = 0.1  # step of the walk, of the logarithm
_GAIN = 3.0


class OnePerItem(LinearPhysics):
    """Another operator for every item of a batch."""

    def __init__(self, parts: Sequence[LinearPhysics]):
        super().__init__(parts[0].image_shape)
        self.each, self.items = tuple(parts), len(parts)
        self.direct = all(p.direct for p in parts)

    def A(self, x: Tensor) -> Tensor:
        return torch.cat([p.A(one) for p, one in zip(self.each, x.split(1), strict=True)])

    def A_adjoint(self, y: Tensor) -> Tensor:
        return torch.cat([p.A_adjoint(one) for p, one in zip(self.each, y.split(1), strict=True)])

    def solve_normal(self, rhs, rho, x0=None, **options):
        rows = zip(self.each, rhs.split(1), rho.expand(len(rhs)).split(1), strict=True)
        return torch.cat([p.solve_normal(b, r, **options) for p, b, r in rows])


class Measurement:
    """y of all chains (N, ...), their operator, and a noise level s of each that may be unknown.

    s is log-uniform between its bounds, which are equal where it is known. Chains begin spread over
    the middle half of the bounds, so that R-hat tells when they have met.
    """

    def __init__(self, problem: Problem, chains: int, levels: Bounds):
        rows = torch.arange(problem.batch, device=problem.y.device).repeat_interleave(chains)
        self.y, self.chains, self.levels = problem.y[rows], chains, levels
        self.physics: LinearPhysics = problem.physics.select(rows)
        self.seen = measured(problem.physics, problem.y, problem.shape)[rows]
        self.s = _spread(levels, problem, chains)

    @property
    def unknown(self) -> dict[str, Tensor]:
        """Values of what is drawn, (N,) each."""
        return {"noise": self.s} if self.levels[0] < self.levels[1] else {}

    def target(self, density, crop) -> Target:
        """The posterior of the images, given the rest."""
        return Target(density, self.physics, self.y, self.s, crop)

    @torch.no_grad()
    def draw(self, image: Tensor, streams: Streams, k: int, *, adapting: bool) -> None:
        """Draw what is unknown, given images (N, C, H, W), at transition k.

        s is conjugate: misfit / s^2 is chi-square of as many degrees as there are values. Beyond
        its bounds a chain stays (Metropolis, the proposal being the law without bounds).
        """
        if self.levels[0] < self.levels[1]:
            normal = self.seen * streams.normal(tuple(self.y.shape[1:]), k, "level")
            s = (self.misfit(self.physics, image) / normal.flatten(1).square().sum(1)).sqrt()
            self.s = torch.where((s > self.levels[0]) & (s < self.levels[1]), s, self.s)

    def misfit(self, physics: LinearPhysics, image: Tensor) -> Tensor:
        """||A x - y||^2 of each chain (N,)."""
        return (physics.A(image) - self.y).flatten(1).square().sum(1)


class Parametrised(Measurement):
    """A measurement by an operator ``make(parameter)``, the parameter log-uniform between bounds.

    Drawn by a random walk of its logarithm, whose step is adapted for each item.

    Args:
        black: what was subtracted from the images. The ``y`` of images u without it, y - A black, is
            another for every parameter.
    """

    def __init__(
        self,
        problem: Problem,
        chains: int,
        levels: Bounds,
        bounds: Bounds,
        make: Callable[[float], LinearPhysics],
        black: float = 0.0,
    ):
        super().__init__(problem, chains, levels)
        self.bounds, self.make = bounds, make
        self._black = self.y.new_full((len(self.y), *problem.shape), black)
        self._measured = self.y + self.physics.A(self._black)
        self.parameter = _spread(bounds, problem, chains)
        self._take(self._operators(self.parameter))
        self._step = torch.full((problem.batch,), _FIRST).to(problem.y)

    @property
    def unknown(self) -> dict[str, Tensor]:
        return super().unknown | {"parameter": self.parameter}

    @torch.no_grad()
    def draw(self, image: Tensor, streams: Streams, k: int, *, adapting: bool) -> None:
        super().draw(image, streams, k, adapting=adapting)
        walked = self._step.repeat_interleave(self.chains) * streams.normal((), k, "walk")
        there = self.parameter * walked.exp()
        inside = (there > self.bounds[0]) & (there < self.bounds[1])
        there = torch.where(inside, there, self.parameter)
        each = self._operators(there)
        gain = self.misfit(self.physics, image) - self.misfit(OnePerItem(each), image)
        probability = inside * (gain / (2 * self.s.square())).clamp(max=0).exp()
        accepted = streams.uniform(k, "walked") < probability
        self.parameter = torch.where(accepted, there, self.parameter)
        rows = zip(accepted.tolist(), each, self._each, strict=True)
        self._take([new if yes else old for yes, new, old in rows])
        if adapting:
            over = probability.view(-1, self.chains).mean(1) - _ACCEPTED
            self._step = self._step * (over * _GAIN / math.sqrt(k + 1)).exp()

    def misfit(self, physics: LinearPhysics, image: Tensor) -> Tensor:
        return (physics.A(image + self._black) - self._measured).flatten(1).square().sum(1)

    def _take(self, each: list[LinearPhysics]) -> None:
        self._each, self.physics = each, OnePerItem(each)
        self.y = self._measured - self.physics.A(self._black)

    def _operators(self, parameter: Tensor) -> list[LinearPhysics]:
        return [self.make(p) for p in parameter.tolist()]


def _spread(bounds: Bounds, problem: Problem, chains: int) -> Tensor:
    """(N,) evenly in log over the middle half of the bounds, for every item."""
    t = 0.25 + 0.5 * (torch.arange(chains, dtype=torch.float64) + 0.5) / chains
    values = bounds[0] * (bounds[1] / bounds[0]) ** t
    return values.repeat(problem.batch).to(problem.y)
