"""Annealed Langevin dynamics without a Metropolis correction: fast, and only approximately right.

While the noise level sigma of the prior falls to sigma0 (Song & Ermon 2019), every chain takes steps

    p <- c p + sqrt(1 - c^2) N(0, M)    (u, p) <- one leapfrog step of size h along grad log p(u | y)

in the metric M of the exact sampler, as Kawar et al. (SNIPS, 2021) follow the singular values of A;
c = 0 is their dynamics, c > 0 keeps a share of the momentum and forgets the start sooner. The
likelihood softens with the prior, to the variance s^2 + sigma^2 - sigma0^2 (Jalal et al. 2021). Steps
of finite size leave draws a little too wide, by 1 / sqrt(1 - h^2 k / 4) where log p has the curvature
k in M, and levels that are left too soon leave them where they were: what "posterior" corrects or
finds out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ....catalog import Method
from ....flows.padding import pad_to_multiple
from ....options import LEVEL, SEEDS, real, whole
from ....protocols import multiple_of, noise_range
from ...levels import priors_at
from ...needs import check_density, check_noise
from ...problem import Problem
from ...reconstruction import Reconstruction
from ..choose_metric import steepest_scale
from ..hmc import leapfrog
from ..metric import Metric
from ..randomness import Streams
from .side_by_side import repeated, side_by_side, summary

_FIRST_SIGMA = 0.3
_SETTLING = 2  # times the steps of other levels pass at the last one before draws are kept
_AT_REST = 1.0  # standard deviations of log p among the draws, that it may still have moved


class Langevin(Method):
    """Approximate draws of p(x | y): unadjusted Langevin steps at falling noise levels."""

    sigma: float | None = real(None, LEVEL, above=0, auto="0.02, or the nearest that it knows")
    draws: int = whole(64, "Draws that are kept, of all chains together.", 2)
    chains: int = whole(16, "Chains that make them.", 2, 4096)
    levels: int = whole(10, "Noise levels, of a prior that knows them.")
    steps: int = whole(30, "Steps at each level, and between draws of a chain.")
    step: float = real(0.4, "Size h of the steps: small ones need many, large ones blur.", above=0)
    memory: float = real(0.9, "Share c of the momentum that a step keeps.", low=0, high=1)
    seed: int = whole(0, "Of random numbers.", *SEEDS)

    def solve(self, problem: Problem, prior) -> Reconstruction:
        check_density("langevin", prior)
        check_noise("langevin", problem)
        self.chains = chains = min(self.chains, self.draws)
        densities = self._densities(prior)
        streams, items = Streams(problem.y, chains, self.seed), repeated(problem, chains)
        start = pad_to_multiple(problem.first_guess(_FIRST_SIGMA), multiple_of(prior))
        noise, scales = problem.deviation(), _scales(densities, prior, start)
        shape, of_data = tuple(start.shape[1:]), tuple(problem.y.shape[1:])
        u = scales[0][items].view(-1, 1, 1, 1) * streams.normal(shape, 0, "start") + start[items]
        size = torch.full((len(u),), self.step).to(u)
        arrived, n = len(densities) - 1 + _SETTLING, -(-self.draws // chains)
        way = [*zip(densities, scales, strict=True)]
        stages = way[:-1] + way[-1:] * (_SETTLING + n)
        kept, trace, k = [], [], 0
        before = after = u.new_zeros(len(u))
        for stage, (density, scale) in enumerate(stages):
            softened = (noise.square() + scale.square() - scales[-1].square()).sqrt()
            target = side_by_side(problem, density, items, softened)
            metric = Metric(target, scale[items])
            point, p = target.at(u), torch.zeros_like(u)
            before = point.log_p if stage == arrived else before
            for j in range(self.steps):
                fresh = metric.momenta(
                    streams.normal(of_data, k, "data"), streams.normal(shape, k, "image")
                )
                c = self.memory if j else 0.0
                p = c * p + math.sqrt(1 - c * c) * fresh
                point, p = leapfrog(target, metric, point, p, size, 1)
                k += 1
                problem.progress(k, len(stages) * self.steps, f"sigma {float(scale.max()):.3g}")
            u, after = point.u, point.log_p
            if stage >= arrived:
                kept.append(problem.crop(u))
            by_item = after.view(-1, chains).mean(1).tolist()
            trace.append({"sigma": scale.tolist(), "log_prob": by_item})
        draws = torch.stack(kept, 1).unflatten(0, (problem.batch, chains)).flatten(1, 2)
        drift = _drift(before.view(-1, chains), after.view(-1, chains))
        finite = u.isfinite().view(problem.batch, -1).all(1)
        level = None if noise_range(prior) is None else float(densities[-1].c)
        return summary(
            problem, draws.transpose(0, 1), "langevin", "unadjusted Langevin",
            converged=finite & (drift.abs() < _AT_REST),
            status=[_status(*row) for row in zip(finite.tolist(), drift.tolist(), strict=True)],
            evaluations=torch.full((problem.batch,), k + len(stages)),
            trace=trace,
            diagnostics={"sigma": level, "drift": drift},
        )  # fmt: skip

    def _densities(self, prior) -> list:
        """The prior at falling levels; once if it knows none."""
        last = priors_at(prior, self.sigma)[0]
        if noise_range(prior) is None:
            return [last]
        low, high = float(last.c), max(float(last.c), min(_FIRST_SIGMA, prior.noise_range[1]))
        way = [k / max(1, self.levels - 1) for k in range(self.levels)]
        return priors_at(prior, [high * (low / high) ** t for t in way[:-1]] + [low])


def _scales(densities: list, prior, start: Tensor) -> list[Tensor]:
    """sigma of each density for the items of ``start``, (B,)."""
    if noise_range(prior) is None:
        return [steepest_scale(densities[0], start)]
    return [torch.full((len(start),), float(d.c)).to(start) for d in densities]


def _drift(before: Tensor, after: Tensor) -> Tensor:
    """How far log p moved while draws were kept, in standard deviations (B,)."""
    return (after - before).mean(1) / after.std(1).clamp_min(1e-6)


def _status(finite: bool, drift: float) -> str:
    if not finite:
        return "failed: the chains left for infinity; lower step"
    if not abs(drift) < _AT_REST or math.isnan(drift):
        return f"not converged: log p still moves ({drift:+.1f} of its spread); raise steps"
    return "approximate: unadjusted Langevin"
