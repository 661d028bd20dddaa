"""Posteriors of several modes: chains at all noise levels of the prior that swap their images.

Replica exchange (Geyer 1991; Hukushima & Nemoto 1996) along p(u; sigma_k) p(y | A u). What divides
the modes at the level that is asked for has melted at the highest one. Two neighbours swap with the
probability

    min(1, p(u_j; sigma_i) p(u_i; sigma_j) / (p(u_i; sigma_i) p(u_j; sigma_j)))

the likelihoods being the same: this takes a density, a score does not tell.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ....catalog import Method
from ....errors import UsageError
from ....flows.padding import pad_to_multiple
from ....options import LEVEL, SEEDS, array, real, whole
from ....protocols import multiple_of, noise_range
from ...levels import SHARP
from ...needs import check_noise
from ...problem import Problem
from ...reconstruction import Reconstruction
from ..adapt import DualAveraging, first_step
from ..chains import transition
from ..choose_metric import metric_for
from ..randomness import Streams
from ..start import begin, reconstruction
from ..target import Point, Target
from .ladder import Ladder
from .setting import length, target_of
from .summary import summary

_ADAPT = (0.3, 0.6)  # of the warm-up, when the levels are spaced anew


class ReplicaExchange(Method):
    """Draws of p(x | y) by Hamiltonian Monte Carlo at many noise levels that swap their images: for
    large holes and other posteriors of several modes.

    Draws are those of the lowest level. The ladder is spaced anew during the warm-up so that all
    neighbours swap equally often (Syed et al. 2022); after each transition even pairs try and then
    odd ones.
    """

    needs = "a noise-conditional flow"

    sigma: float | None = real(None, LEVEL, above=0, auto="0.02, or the nearest that it knows")
    top: float | None = real(
        None, "Highest noise level of the ladder.", above=0, auto="the highest of the prior"
    )
    levels: int | None = whole(
        None, "Noise levels of the ladder.", 2, 1024, auto="what the dimension of the gaps needs"
    )
    draws: int = whole(
        400, "Draws that are kept, of all chains together; rounded up to equally many of each.", 8
    )
    chains: int = whole(4, "Chains that make them, each with all levels.", 2, 4096)
    warmup: int = whole(150, "Transitions before, which adapt step sizes and levels.", 0)
    steps: int = whole(15, "Leapfrog steps of a transition, on average.")
    init: Tensor | None = array(None, "Images (B, C, H, W) to begin with.")
    seed: int = whole(0, "Of random numbers.", *SEEDS)

    def solve(self, problem: Problem, prior) -> Reconstruction:
        if (span := noise_range(prior)) is None:
            raise UsageError(
                f"method 'exchange' needs a noise-conditional flow: {type(prior).__name__} knows "
                "no noise levels; take 'posterior' or 'smc'"
            )
        check_noise("exchange", problem)
        cold, hot = (
            min(max(v, span[0]), span[1]) for v in (self.sigma or SHARP, self.top or span[1])
        )
        if cold >= hot:
            raise UsageError(f"top={self.top}: must be above the lowest level, {cold:g}")
        ladder = Ladder.spaced(problem, cold, hot, self.levels, self.chains)
        start = reconstruction(problem, prior) if self.init is None else self.init
        start = pad_to_multiple(start, multiple_of(prior)).repeat_interleave(ladder.rows, 0)
        n = -(-self.draws // self.chains)
        streams = Streams(problem.y, ladder.rows, self.seed)
        target, scale = _at(problem, prior, ladder)
        metric_of = metric_for(target, start)
        metric = metric_of(target, scale)
        point = begin(target, metric, streams, start)
        first = torch.full((problem.batch * ladder.count,), first_step(start))
        adapt = DualAveraging(first.to(problem.y))
        spacing = {round(share * self.warmup) for share in _ADAPT} - {0}
        kept, trace, evaluations = [], [], 1
        accepted = torch.zeros(problem.batch).to(point.log_p)
        diverged = torch.zeros(problem.batch, dtype=torch.long, device=accepted.device)
        for k in range(self.warmup + n):
            if k == self.warmup:
                ladder.forget()
            elif k in spacing:
                ladder.space_anew()
                target, scale = _at(problem, prior, ladder)
                metric = metric_of(target, scale)
                point = target.at(point.u)
            size = ladder.by_row(adapt.step if k < self.warmup else adapt.final)
            steps = length(self.steps, k, self.seed)
            result = transition(target, metric, point, streams, k, size, steps)
            point = result.point
            for pairs in ("even", "odd"):
                partner = ladder.partners(pairs).to(size.device)
                point, swapped = swap(target, point, partner, streams.uniform(k, pairs))
                ladder.follow(partner, swapped)
            evaluations += steps + 2
            of_level = result.acceptance.view(-1, self.chains, ladder.count).mean(1)
            if k < self.warmup:
                adapt.update(of_level.flatten())
            else:
                kept.append(problem.crop(ladder.coldest(point.u)))
                accepted += of_level[:, 0] / n
                diverged += result.diverged.view(-1, ladder.rows).sum(1)
            trace.append(
                {
                    "acceptance": of_level[:, 0].tolist(),
                    "step": size.view(-1, ladder.rows)[:, 0].tolist(),
                    "log_prob": ladder.coldest(point.log_p).view(-1, self.chains).mean(1).tolist(),
                }
            )
            stage = "warm-up" if k < self.warmup else "sampling"
            told = f"{stage}, acceptance {float(of_level.mean()):.2f}, {ladder.told}"
            problem.progress(k + 1, self.warmup + n, told)
        found = summary(
            problem,
            prior.at(cold),
            torch.stack(kept, 1).unflatten(0, (-1, self.chains)),
            "exchange",
            {
                "acceptance": accepted,
                "divergences": diverged,
                "sigma": cold,
                "levels": ladder.levels,
                "swaps": 1 - ladder.rejection,
                "round_trips": ladder.trips,
            },
            evaluations=torch.full((problem.batch,), evaluations),
            trace=trace,
        )
        for i, trips in enumerate(ladder.trips.tolist()):
            if trips == 0 and found.converged[i]:
                found.converged[i] = False
                found.status[i] = (
                    "not converged: no image went up the ladder of noise levels and down again; "
                    "raise draws or levels"
                )
        return found


def swap(target: Target, point: Point, partner: Tensor, uniform: Tensor) -> tuple[Point, Tensor]:
    """Exchange the images of partners i, j, and who did (N,); rows that are their own partner stay.

    ``partner`` (N,) is its own inverse; ``uniform`` (N,) in [0, 1) decides, that of the first row.
    """
    there = target.at(point.u[partner])  # log p_i(u_j), with the gradient to go on with
    gain = there.log_p - point.log_p
    probability = (gain + gain[partner]).clamp(max=0).exp().nan_to_num(0.0)
    own = torch.arange(len(partner), device=partner.device)
    accepted = (uniform[torch.minimum(partner, own)] < probability) & (partner != own)
    return point.where(accepted, there), accepted


def _at(problem: Problem, prior, ladder: Ladder) -> tuple[Target, Tensor]:
    """What is sampled at the levels of a ladder, and these for all rows."""
    levels = ladder.by_row(ladder.levels).to(problem.y)
    target = target_of(problem, prior.at(levels), ladder.rows)
    return target, levels
