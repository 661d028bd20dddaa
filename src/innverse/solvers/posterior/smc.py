"""From exact draws of the prior to the posterior, by raising the power of the likelihood from 0 to 1.

Tempered sequential Monte Carlo (Neal 2001; Del Moral, Doucet & Jasra 2006): particles of
p_t(u) ~ p(u) p(y | A u)^t are weighted by p(y | A u)^dt, drawn again by their weights, and moved by
Hamiltonian Monte Carlo in the metric M_t = t A^T A / s^2 + I / sigma0^2. A flow draws exactly from
p_0, so no mode has to be found, and the means of the weights multiply to p(y).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...catalog import Method
from ...errors import InputError, UsageError
from ...options import LEVEL, SEEDS, real, whole
from ...protocols import Density, Generator, multiple_of, noise_range
from ..levels import priors_at
from ..problem import Problem
from ..reconstruction import Reconstruction
from .adapt import TARGET
from .constant import log_constant
from .hmc import move
from .metric import Metric
from .randomness import Streams
from .solve import _length, _result, _scale, _target
from .target import Density as Sampled
from .target import Target

_FIRST = 0.5  # step size
_LOOK = 8  # draws at which the curvature of a density without noise levels is measured
_HALVINGS = 60
_AGREE = 1.0  # standard deviation of log p(y) over the runs, in nats, up to which they agree


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
    keep: float = real(
        0.7, "Share of the particles that a rise of the temperature leaves effective.",
        above=0, high=0.99,
    )  # fmt: skip
    moves: int = whole(2, "Transitions at each temperature.")
    steps: int = whole(12, "Leapfrog steps of a transition, on average.")
    seed: int = whole(0, "Of random numbers.", *SEEDS)

    def solve(self, problem: Problem, prior) -> Reconstruction:
        if not isinstance(prior, Density) or not isinstance(prior, Generator):
            raise UsageError(
                f"method 'smc' needs a density that it can draw from: {type(prior).__name__} lacks "
                "log_prob or decode; choose a flow"
            )
        if problem.noise is None:
            raise UsageError(
                "method 'smc' needs the noise level: pass noise=, or a physics that knows it"
            )
        if self.draws < 4 * self.runs:
            raise UsageError(f"draws={self.draws}: give {self.runs} runs at least 4 each")
        density = priors_at(prior, self.sigma)[0]
        found = [self._item(_alone(problem, i), density, prior) for i in range(problem.batch)]
        # the particles of a run stand where a chain has its transitions
        particles = torch.stack([p.u.unflatten(0, (self.runs, -1)) for p in found])
        kept = [problem.crop(u).flatten(0, 1) for u in particles.unbind(2)]
        acceptance = torch.tensor([p.acceptance for p in found]).to(problem.y)
        diverged = torch.tensor([p.diverged for p in found]).to(problem.y.device)
        level = float(density.c) if noise_range(prior) is not None else None
        result = _result(
            problem, density, kept, self.runs, acceptance, diverged, 0, [], level
        )  # fmt: skip
        result.method = "smc"
        result.evaluations = torch.tensor([p.evaluations for p in found])
        by_run = torch.stack([p.log_z for p in found]) + log_constant(problem).cpu()[:, None]
        # particles that hardly move are alike, which only the runs show; few runs may agree by chance
        spread = by_run.var(1).maximum(torch.tensor([p.variance for p in found])).sqrt()
        result.diagnostics |= {
            "log_evidence": by_run.logsumexp(1) - math.log(self.runs),
            "log_evidence_error": spread / math.sqrt(self.runs),
            "ess": len(kept) / by_run.softmax(1).square().sum(1),
            "temperatures": [p.temperatures for p in found],
        }
        for i, apart in enumerate(spread.tolist()):
            if not apart <= _AGREE and result.converged[i]:
                result.converged[i] = False
                result.status[i] = (
                    f"not converged: the runs differ by {apart:.1f} nats in log p(y); raise draws, "
                    "moves or keep"
                )
        return result

    def _item(self, problem: Problem, density: Sampled, prior) -> Particles:
        """The particles of one item, at the temperature 1."""
        runs, n = self.runs, -(-self.draws // self.runs)
        streams = Streams(problem.y, runs * n, self.seed)
        shape, of_data = problem.padded_shape(multiple_of(prior)), tuple(problem.y.shape[1:])
        target = _target(problem, density, runs * n)
        with torch.no_grad():
            u = density.decode(streams.normal(shape, 0, "prior"))
        # one metric for all: it must not know where a particle stands
        scale = _scale(density, prior, u[:_LOOK])[1].min().expand(len(u))
        found = Particles(u, torch.zeros(runs, dtype=torch.float64))
        step = _FIRST
        first = n * torch.arange(runs)[:, None]

        def moved(stage: int, t: float, u: Tensor) -> Tensor:
            nonlocal step
            at_t = tempered(target, t)
            metric, point = Metric(at_t, scale), at_t.at(u)
            for k in range(stage * self.moves, (stage + 1) * self.moves):
                length = _length(self.steps, k, self.seed)
                e, e2 = streams.normal(of_data, k, "data"), streams.normal(shape, k, "image")
                uniform, size = streams.uniform(k, "accept"), torch.full_like(scale, step)
                result = move(at_t, metric, point, metric.momenta(e, e2), uniform, size, length)
                point, found.acceptance = result.point, float(result.acceptance.mean())
                step *= math.exp(found.acceptance - TARGET)  # hundreds of particles: hardly noise
                found.diverged += int(result.diverged.sum())
                found.evaluations += length
            found.evaluations += 1
            return point.u

        t, stage = 0.0, 0
        while t < 1:
            with torch.no_grad():
                likelihood = target.log_likelihood(found.u).double().cpu().view(runs, n)
            dt = rise(likelihood, 1 - t, self.keep)
            t, stage = min(1.0, t + dt), stage + 1
            log_w = dt * likelihood
            found.log_z += log_w.logsumexp(1) - math.log(n)
            weights = log_w.softmax(1)
            found.variance += float(weights.square().sum(1).mean()) - 1 / n
            chosen = systematic(weights, streams.uniform(stage, "resample")[::n])
            found.u = moved(stage, t, found.u[(first + chosen).flatten()])
            found.temperatures.append(t)
            # temperatures rise about geometrically
            problem.progress(t**0.25, 1, f"temperature {t:.2g}, acceptance {found.acceptance:.2f}")
        # runs count by their share of the evidence
        share = found.log_z.softmax(0).repeat_interleave(n)[None] / n
        chosen = systematic(share, streams.uniform(0, "resample")[:1])[0]
        found.u = moved(stage + 1, 1.0, found.u[chosen])
        return found


@dataclass
class Particles:
    """Images (runs * n, C, H, W) of all runs; log Z of each run (runs,), less `log_constant`; the
    variance of each, were the particles independent."""

    u: Tensor
    log_z: Tensor
    variance: float = 0.0
    temperatures: list[float] = dataclasses.field(default_factory=list)
    acceptance: float = 0.0
    diverged: int = 0
    evaluations: int = 0


def tempered(target: Target, t: float) -> Target:
    """The target with the likelihood to the power t > 0."""
    noise = target.noise / math.sqrt(t)
    return Target(
        target.density, target.physics, target.y, noise, target.crop,
        lambda image: t * target.likelihood(image),
    )  # fmt: skip


def rise(log_likelihood: Tensor, most: float, keep: float) -> float:
    """The rise of t, up to ``most``, whose weights leave a share ``keep`` of the particles effective.

    ``log_likelihood`` (runs, n); the share is (sum w)^2 / (n sum w^2), on average over the runs, of
    the particles with any likelihood.

    Raises:
        InputError: a run without a particle that has any.
    """
    n = log_likelihood.shape[1]
    alive = log_likelihood.isfinite().sum(1)
    if not bool((alive > 0).all()):
        raise InputError(
            "no draw of the prior gives these measurements any probability: raise draws, or lower "
            "runs"
        )

    def effective(dt: float) -> float:
        return float((1 / (dt * log_likelihood).softmax(1).square().sum(1)).mean()) / n

    goal = keep * float(alive.double().mean()) / n
    if effective(most) >= goal:
        return most
    low, high = 0.0, most
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle) >= goal else (low, middle)
    return high


def systematic(weights: Tensor, offset: Tensor) -> Tensor:
    """Indices (runs, n) drawn by ``weights`` (runs, n), one uniform ``offset`` (runs,) for each run.

    Sorted: the copies of a particle stand side by side.
    """
    n = weights.shape[1]
    places = (torch.arange(n) + offset.cpu().double()[:, None]) / n
    upto = weights.cumsum(1)
    return torch.searchsorted(upto / upto[:, -1:], places).clamp_max(n - 1)


def _alone(problem: Problem, i: int) -> Problem:
    """The problem of one item, which tells its share of the progress."""
    only = torch.tensor([i], device=problem.y.device)
    given = problem.given
    noise = (
        problem.noise[only]
        if isinstance(problem.noise, Tensor) and problem.noise.dim()
        else problem.noise
    )
    return dataclasses.replace(
        problem,
        y=problem.y[only],
        physics=problem.physics.select(only),
        noise=noise,
        progress=lambda done, _, note: problem.progress(i + done, problem.batch, note),
        given=None if given is None else (given[0][only], given[1].select(only)),
    )
