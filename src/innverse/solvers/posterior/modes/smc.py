"""From exact draws of the prior to the posterior, by raising the power of the likelihood from 0 to 1.

Tempered sequential Monte Carlo (Neal 2001; Del Moral, Doucet & Jasra 2006): particles of
p_t(u) ~ p(u) p(y | A u)^t are weighted by p(y | A u)^dt, drawn again by their weights, and moved by
Hamiltonian Monte Carlo in the metric M_t = t A^T A / s^2 + I / sigma0^2. A flow draws exactly from
p_0, so no mode has to be found, and the means of the weights multiply to p(y).
"""

from __future__ import annotations

import dataclasses
import math

import torch

from ....catalog import Method
from ....errors import UsageError
from ....options import LEVEL, SEEDS, real, whole
from ....protocols import Generator, multiple_of
from ...levels import level_of, priors_at
from ...needs import check_density, check_noise
from ...problem import Problem
from ...reconstruction import Reconstruction
from ..choose_metric import scale_of
from ..randomness import Streams
from .constant import log_constant
from .particles import Particles
from .setting import target_of
from .summary import summary

_LOOK = 8  # draws at which the curvature of a density without noise levels is measured
_AGREE = 1.0  # standard deviation of log p(y) over the runs, in nats, up to which they agree
_STUCK = 0.6  # correlation of particles with where they were before they were moved


class TemperedSMC(Method):
    """Draws of p(x | y) by tempered sequential Monte Carlo from exact draws of the prior, and
    log p(y): for posteriors of several modes, and to compare models.

    Several populations run side by side at common temperatures; the spread of their estimates is the
    error of log p(y). ``diagnostics`` holds log_evidence, log_evidence_error and ess (B,) besides.
    """

    needs = "a flow"

    sigma: float | None = real(None, LEVEL, above=0, auto="0.02, or the nearest that it knows")
    draws: int = whole(512, "Draws that are kept: particles of all runs together.", 8)
    runs: int = whole(8, "Independent populations that share the draws.", 2, 4096)
    effective: float = real(
        0.7, "Share of the particles that a rise of the temperature leaves effective.",
        above=0, high=0.99,
    )  # fmt: skip
    moves: int = whole(
        10, "Transitions at each temperature, at most: they end once particles have moved."
    )
    steps: int = whole(8, "Leapfrog steps of a transition, on average.")
    seed: int = whole(0, "Of random numbers.", *SEEDS)

    def solve(self, problem: Problem, prior) -> Reconstruction:
        check_density("smc", prior)
        if not isinstance(prior, Generator):
            raise UsageError(
                f"method 'smc' draws from the prior: {type(prior).__name__} has no decode"
            )
        check_noise("smc", problem)
        if self.draws < 4 * self.runs:
            raise UsageError(f"draws={self.draws}: give {self.runs} runs at least 4 each")
        density = priors_at(prior, self.sigma)[0]
        found = [self._item(_alone(problem, i), density, prior) for i in range(problem.batch)]
        # the particles of a run stand where a chain has its transitions
        particles = torch.stack([p.u.unflatten(0, (self.runs, -1)) for p in found])
        draws = problem.crop(particles)
        by_run = torch.stack([p.log_z for p in found]) + log_constant(problem).cpu()[:, None]
        # particles that hardly move are alike, which only the runs show; few runs may agree by chance
        spread = by_run.var(1).maximum(torch.tensor([p.variance for p in found])).sqrt()
        result = summary(
            problem,
            density,
            draws,
            "smc",
            {
                "acceptance": torch.tensor([p.acceptance for p in found]),
                "divergences": torch.tensor([p.diverged for p in found]),
                "sigma": level_of(density),
                "log_evidence": by_run.logsumexp(1) - math.log(self.runs),
                "log_evidence_error": spread / math.sqrt(self.runs),
                "ess": draws.shape[2] / by_run.softmax(1).square().sum(1),
                "temperatures": [p.temperatures for p in found],
                "correlation": [p.correlations for p in found],
            },
            evaluations=torch.tensor([p.evaluations for p in found]),
        )
        for i, (apart, p) in enumerate(zip(spread.tolist(), found, strict=True)):
            if words := _doubt(apart, max(p.correlations)):
                result.converged[i] = False
                result.status[i] = f"not converged: {words}"
        return result

    def _item(self, problem: Problem, density, prior) -> Particles:
        """The particles of one item, taken from the prior to the posterior."""
        n = -(-self.draws // self.runs)
        target = target_of(problem, density, self.runs * n)
        streams = Streams(problem.y, self.runs * n, self.seed)
        with torch.no_grad():
            z = streams.normal(problem.padded_shape(multiple_of(prior)), 0, "prior")
            u = density.decode(z)
        # one metric for all: it must not know where a particle stands
        scale = scale_of(density, level_of(density), u[:_LOOK]).min().expand(len(u))
        found = Particles(target, scale, streams, u, self.runs)
        mover = {"most": self.moves, "steps": self.steps, "seed": self.seed}
        while found.t < 1:
            found.weigh(self.effective)
            found.move(**mover)
            told = f"temperature {found.t:.2g}, acceptance {found.acceptance:.2f}"
            problem.progress(found.t**0.25, 1, told)  # they rise about geometrically
        found.mix()
        found.move(**mover)
        return found


def _doubt(apart: float, correlation: float) -> str:
    """What speaks against a result; "" if nothing does."""
    if not apart <= _AGREE:
        return f"the runs differ by {apart:.1f} nats in log p(y); raise draws, moves or effective"
    if not correlation <= _STUCK:
        return (
            f"particles hardly move, they keep a correlation of {correlation:.2f} with where they "
            "were; raise moves or steps"
        )
    return ""


def _alone(problem: Problem, i: int) -> Problem:
    """The problem of one item, which tells its share of the progress."""
    only = torch.tensor([i], device=problem.y.device)
    noise, given = torch.as_tensor(problem.noise), problem.given
    return dataclasses.replace(
        problem,
        y=problem.y[only],
        physics=problem.physics.select(only),
        noise=noise[only] if noise.numel() > 1 else problem.noise,
        progress=lambda done, _, note: problem.progress(i + done, problem.batch, note),
        given=None if given is None else (given[0][only], given[1].select(only)),
        model=None if problem.model is None else problem.model.select(only),
    )
