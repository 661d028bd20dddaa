"""One cell: a law and an operator, the flow's posterior beside the exact one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from posteriors.cells import Setting
from torch import Tensor

from innverse.metrics.chains import effective_size

from . import priors
from .gibbs import Gibbs
from .laws import LAWS, Law
from .operators import LENGTH, cumulative, noise_level, operators
from .sampler import sample, start_in_jumps, start_in_steps

LEVEL = 0.9  # of the credible sets


@dataclass(frozen=True)
class Effort:
    """Of the reference and of the flow's sampler; ``steps`` are leapfrog steps of one transition."""

    signals: int = 2000
    burn_in: int = 20
    sweeps: int = 80
    warmup: int = 25
    draws: int = 50
    steps: int = 10
    together: int = 1000


QUICK = Effort(signals=50, burn_in=10, sweeps=20, warmup=20, draws=30)
OWN = {
    "gaussian": {"steps": 4},  # a round posterior
    "laplace": {"steps": 12},  # a kink in every increment
    "bernoulli-laplace": {"steps": 8, "burn_in": 60, "sweeps": 240},  # several modes
}


def run(quick: bool, seed: int, laws: Iterable[str] = LAWS) -> dict:
    """Gap to the best possible mean, and coverage, of each law and operator; what was computed
    before is read from ``runs/levy``."""
    setting = Setting(Path("runs/levy-quick" if quick else "runs/levy") / str(seed), quick=quick)
    result: dict = {}
    for name in laws:
        law = LAWS[name]
        effort = replace(QUICK if quick else Effort(), **OWN.get(name, {}))
        for operator, a in operators().items():

            def compute(name=name, law=law, a=a, effort=effort) -> dict:
                flow = priors.trained(law, setting.cells / name, quick, seed)
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed + 1)
                    return measure(law, flow, a, effort)

            result[f"{name}/{operator}"] = setting.cell(f"{name}/{operator}", compute)
    return result


def measure(law: Law, flow, a: Tensor, effort: Effort) -> dict:
    """What the flow's posterior and the exact one make of the same measurements of new signals."""
    problem = simulate(law, a, effort.signals)
    started = time.process_time()
    reference = by_gibbs(law, a, problem, effort)
    between = time.process_time()
    found = by_flow(law, flow, a, problem, effort)
    best, ours = ((e.mean - problem.x).square().mean(1) for e in (reference, found))
    each = 10 * (ours / best).log10()
    return {
        "signals": effort.signals,
        "noise": problem.noise,
        "mse_reference": float(best.mean()),
        "mse_flow": float(ours.mean()),
        "gap_of_mean_mse_db": 10 * math.log10(float(ours.mean() / best.mean())),
        "gap_mean_db": float(each.mean()),
        "gap_mean_db_se": float(each.std()) / math.sqrt(len(each)),
        "gap_median_db": float(each.median()),
        "reference_error_db": 10 * math.log10(1 + reference.error / float(best.mean())),
        "coverage": found.coverage,
        "coverage_of_intervals": found.coverage_of_intervals,
        "coverage_reference": reference.coverage,
        "acceptance": found.acceptance,
        "effective_draws": found.effective_draws,
        "draws": effort.draws,
        "steps": effort.steps,
        "cpu_seconds_reference": between - started,
        "cpu_seconds_flow": time.process_time() - between,
    }


@dataclass
class Problem:
    """Signals x, what the flow has a density of (u = x, or x + level e), measurements
    y = A x + N(0, noise^2), and the standard deviation ``level`` of what u adds."""

    x: Tensor
    u: Tensor
    y: Tensor
    noise: float
    level: float

    def spread(self, a: Tensor) -> Tensor:
        """Covariance of y given u: noise^2 - level^2 A A^T, which leaves noise^2 given x."""
        eye = torch.eye(len(a), dtype=a.dtype)
        return self.noise**2 * eye - self.level**2 * a @ a.T


def simulate(law: Law, a: Tensor, signals: int) -> Problem:
    """u is half as noisy as y where the law has an atom, so that y is independent of x given u."""
    x, noise = law.sample((signals, LENGTH)).cumsum(1), noise_level(law, a)
    level = 0.5 * noise if law.active < 1 else 0.0
    u = x + level * torch.randn_like(x)
    problem = Problem(x, u, x, noise, level)
    root = torch.linalg.cholesky(problem.spread(a))
    problem.y = u @ a.T + torch.randn(signals, len(a), dtype=a.dtype) @ root.T
    return problem


@dataclass
class Estimate:
    """Posterior means (N, 64), the mean square ``error`` of them by chance, and shares of truths that
    credible sets hold: sets of highest density, and central intervals of each sample."""

    mean: Tensor
    coverage: float
    error: float = math.nan
    coverage_of_intervals: float = math.nan
    acceptance: float = math.nan
    effective_draws: float = math.nan


def by_gibbs(law: Law, a: Tensor, problem: Problem, effort: Effort) -> Estimate:
    gibbs = Gibbs(law, a, problem.y, problem.noise)
    for _ in range(effort.burn_in):
        gibbs.sweep()
    halves, log_p = [], []
    for _ in range(2):
        total = torch.zeros_like(problem.x)
        for _ in range(effort.sweeps // 2):
            gibbs.sweep()
            total += gibbs.mean
            log_p.append(gibbs.log_p(gibbs.u))
        halves.append((total / (effort.sweeps // 2)).cumsum(1))
    truth = problem.x @ torch.linalg.inv(cumulative()).T
    if law.active < 1:  # sums and differences of increments that are exactly 0
        truth = torch.where(truth.abs() < 1e-9, 0.0, truth)
    return Estimate(
        mean=(halves[0] + halves[1]) / 2,
        coverage=held(torch.stack(log_p), gibbs.log_p(truth)),
        error=float((halves[0] - halves[1]).square().mean()) / 4,
    )


def by_flow(law: Law, flow, a: Tensor, problem: Problem, effort: Effort) -> Estimate:
    spread = problem.spread(a)
    white = torch.linalg.inv(torch.linalg.cholesky(spread))
    flow = flow.at(problem.level) if problem.level else flow
    scale = 1.4826 * float(law.sample((100_000,)).abs().median())
    means, log_p, of_truth, intervals, accepted, sizes = [], [], [], [], [], []
    for y, u in zip(problem.y.split(effort.together), problem.u.split(effort.together)):
        seen = white @ a, y @ white.T
        if problem.level:
            start, curvature = start_in_steps(*seen, problem.level)
        else:
            start, curvature = start_in_jumps(flow, *seen, scale)
        options = {"warmup": effort.warmup, "kept": effort.draws, "steps": effort.steps}
        drawn = sample(flow, *seen, u, start, curvature, **options)
        # Tweedie's E[x | u], averaged
        means.append((drawn.u.double() + problem.level**2 * drawn.score).mean(0))
        log_p.append(drawn.log_p)
        of_truth.append(drawn.log_p_of_truth)
        low, high = interval(drawn.u)
        intervals.append(((low < u) & (u < high)).double().mean(1))
        accepted.append(drawn.acceptance)
        sizes.append(effective_size(drawn.u[None, :, ::10]).median())
    return Estimate(
        mean=torch.cat(means),
        coverage=held(torch.cat(log_p, 1), torch.cat(of_truth)),
        coverage_of_intervals=float(torch.cat(intervals).mean()),
        acceptance=sum(accepted) / len(accepted),
        effective_draws=float(torch.stack(sizes).mean()),
    )


def held(log_p: Tensor, of_truth: Tensor) -> float:
    """The share of truths (N,) within the sets of highest density that hold `LEVEL` of the posterior.

    The truth is one more draw: its rank among the S others is uniform on 0 .. S.
    """
    rank = (log_p > of_truth).sum(0) + torch.rand(of_truth.shape)
    return float((rank < LEVEL * (len(log_p) + 1)).double().mean())


def interval(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Ends between which a further draw lies with probability `LEVEL`, of draws (S, ...)."""
    s = len(draws)
    at = (torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2]) * (s + 1) - 1) / (s - 1)
    low, high = draws.quantile(at, 0)
    return low, high
