"""Posteriors of several modes: chains at all noise levels of the prior that swap their images.

Replica exchange (Geyer 1991; Hukushima & Nemoto 1996) along p(u; sigma_k) p(y | A u). What divides
the modes at the level that is asked for has melted at the highest one. Two neighbours swap with the
probability

    min(1, p(u_j; sigma_i) p(u_i; sigma_j) / (p(u_i; sigma_i) p(u_j; sigma_j)))

the likelihoods being the same: this takes a density, a score does not tell.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...catalog import Method
from ...errors import UsageError
from ...flows.padding import pad_to_multiple
from ...options import LEVEL, SEEDS, array, real, whole
from ...protocols import multiple_of, noise_range
from ..levels import SHARP
from ..problem import Problem
from ..reconstruction import Reconstruction
from .adapt import DualAveraging
from .hmc import move
from .metric import Metric
from .randomness import Streams
from .solve import _FIRST_STEP, _begin, _length, _result, _start, _target
from .target import Point, Target

_OVERLAP = 1.2  # sqrt(free dimensions) * log ratio of levels, of neighbours that still swap
_MOST = 64  # levels
_ADAPT = (0.3, 0.6)  # of the warm-up, when the levels are spaced anew
_FLOOR = 0.02  # a rate of rejections below which a pair counts as this


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
    draws: int = whole(400, "Draws that are kept, of all chains together.", 8)
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
        if problem.noise is None:
            raise UsageError(
                "method 'exchange' needs the noise level: pass noise=, or a physics that knows it"
            )
        cold, hot = (
            min(max(v, span[0]), span[1]) for v in (self.sigma or SHARP, self.top or span[1])
        )
        if cold >= hot:
            raise UsageError(f"top={self.top}: must be above the lowest level, {cold:g}")
        ladder = Ladder.spaced(problem, cold, hot, self.levels, self.chains)
        start = pad_to_multiple(
            _start(problem, prior) if self.init is None else self.init, multiple_of(prior)
        )
        n = -(-self.draws // self.chains)
        streams = Streams(problem.y, self.chains * ladder.count, self.seed)
        shape, of_data = tuple(start.shape[1:]), tuple(problem.y.shape[1:])
        target, metric = _at(problem, prior, ladder)
        apart = metric.scale.view(-1, 1, 1, 1) * streams.normal(shape, 0, "start")
        point = _begin(target, start.repeat_interleave(ladder.rows, 0), apart)
        adapt = DualAveraging(
            torch.full((problem.batch * ladder.count,), _FIRST_STEP).to(problem.y)
        )
        spacing = {round(share * self.warmup) for share in _ADAPT}
        kept, trace, evaluations = [], [], 1
        accepted = torch.zeros(problem.batch, dtype=point.log_p.dtype, device=point.log_p.device)
        diverged = torch.zeros(problem.batch, dtype=torch.long, device=accepted.device)
        for k in range(self.warmup + n):
            if k == self.warmup:
                ladder.forget()
            elif k in spacing and k > 0:
                ladder.space_anew()
                target, metric = _at(problem, prior, ladder)
                point = target.at(point.u)
            size = ladder.by_row(adapt.step if k < self.warmup else adapt.final)
            length = _length(self.steps, k, self.seed)
            p = metric.momenta(
                streams.normal(of_data, k, "data"), streams.normal(shape, k, "image")
            )
            result = move(target, metric, point, p, streams.uniform(k, "accept"), size, length)
            point = result.point
            for pairs in ("even", "odd"):
                partner = ladder.partners(pairs)
                point, swapped = swap(target, point, partner, streams.uniform(k, pairs))
                ladder.follow(partner, swapped)
            evaluations += length + 2
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
        density = prior.at(cold)
        found = _result(
            problem, density, kept, self.chains, accepted, diverged, evaluations, trace, cold
        )
        found.method = "exchange"
        found.diagnostics |= {
            "levels": ladder.levels,
            "swaps": 1 - ladder.rejection,
            "round_trips": ladder.trips,
        }
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


class Ladder:
    """The noise levels (B, K), rising, of the chains of every item, and who climbs them.

    Rows of the batch are (item, chain, level).
    """

    def __init__(self, levels: Tensor, chains: int):
        self.levels, self.chains = levels, chains
        self.batch, self.count = levels.shape
        self.rows = chains * self.count
        self._heading = torch.zeros(self.batch, chains, self.count, dtype=torch.long)
        self._heading[..., 0] = _UP
        self.forget()

    @classmethod
    def spaced(
        cls, problem: Problem, cold: float, hot: float, count: int | None, chains: int
    ) -> Ladder:
        """Evenly in log sigma; ``count`` None: as many levels as neighbours need to overlap."""
        if count is None:
            free = free_dimensions(problem, math.sqrt(cold * hot))
            count = min(_MOST, 2 + int(math.log(hot / cold) * math.sqrt(free) / _OVERLAP))
        t = torch.linspace(0, 1, count, dtype=torch.float64)
        return cls((cold * (hot / cold) ** t).expand(problem.batch, -1).clone(), chains)

    def forget(self) -> None:
        """Count swaps and round trips from now on."""
        self._tried = torch.zeros(self.batch, self.count - 1, dtype=torch.float64)
        self._refused = torch.zeros_like(self._tried)
        self.trips = torch.zeros(self.batch, dtype=torch.long)

    @property
    def rejection(self) -> Tensor:
        """The share of refused swaps of each pair of neighbours (B, K - 1)."""
        return self._refused / self._tried.clamp_min(1)

    @property
    def told(self) -> str:
        return f"{int(self.trips.sum())} round trips"

    def by_row(self, values: Tensor) -> Tensor:
        """(B * K,), one of each level of an item, for all rows."""
        return values.view(-1, 1, self.count).expand(-1, self.chains, -1).flatten()

    def coldest(self, values: Tensor) -> Tensor:
        """Those of the lowest levels, (B * chains, ...)."""
        return values.unflatten(0, (-1, self.count))[:, 0]

    def partners(self, pairs: str) -> Tensor:
        """The partner of each row in "even" pairs (0, 1), (2, 3).. or "odd" ones (1, 2), (3, 4)..;
        a level without one is its own."""
        k = torch.arange(self.count)
        other = torch.where((k % 2 == 0) == (pairs == "even"), k + 1, k - 1)
        other = torch.where((other < 0) | (other >= self.count), k, other)
        first = self.count * torch.arange(self.batch * self.chains)
        return (first[:, None] + other).flatten()

    def follow(self, partner: Tensor, swapped: Tensor) -> None:
        """Count what `swap` did."""
        partner, swapped = partner.cpu(), swapped.cpu()
        heading = self._heading.flatten()
        heading = torch.where(swapped, heading[partner], heading).view_as(self._heading)
        lower = (partner > torch.arange(len(partner))).view_as(heading)
        self._tried += lower.sum(1)[:, :-1]
        self._refused += (lower & ~swapped.view_as(lower)).sum(1)[:, :-1]
        self.trips += (heading[..., 0] == _DOWN).sum(1)
        heading[..., 0] = _UP
        heading[..., -1] = torch.where(heading[..., -1] == _UP, _DOWN, heading[..., -1])
        self._heading = heading

    def space_anew(self) -> None:
        """Levels between which equally many swaps are refused, by what was counted."""
        share = self.rejection.clamp_min(_FLOOR).cumsum(1)
        share = torch.cat((torch.zeros(self.batch, 1, dtype=share.dtype), share / share[:, -1:]), 1)
        t = torch.linspace(0, 1, self.count, dtype=share.dtype)[1:-1].expand(self.batch, -1)
        after = torch.searchsorted(share, t.contiguous()).clamp(1, self.count - 1)
        low, high = share.gather(1, after - 1), share.gather(1, after)
        logs = self.levels.log()
        inner = torch.lerp(
            logs.gather(1, after - 1), logs.gather(1, after), (t - low) / (high - low)
        )
        self.levels = torch.cat((self.levels[:, :1], inner.exp(), self.levels[:, -1:]), 1)
        self.forget()


_UP, _DOWN = 1, 2  # where an image that was at an end of the ladder is heading


@torch.no_grad()
def free_dimensions(problem: Problem, level: float) -> float:
    """Of an image known to within ``level``, those that the data leave free: tr (I + A^T A r)^-1
    with r = (level / noise)^2, the largest of all items, by one random probe (Hutchinson)."""
    rho = (problem.noise_level() / level).square()
    probe = torch.randn((problem.batch, *problem.shape), generator=torch.Generator().manual_seed(0))
    probe = probe.sign().to(problem.y)
    solved = problem.physics.solve_normal(probe, rho, tol=1e-3) * rho.view(-1, 1, 1, 1)
    return float((probe * solved).flatten(1).sum(1).max().clamp_min(1.0))


def _at(problem: Problem, prior, ladder: Ladder) -> tuple[Target, Metric]:
    """What is sampled at the levels of a ladder."""
    levels = ladder.by_row(ladder.levels).to(problem.y)
    target = _target(problem, prior.at(levels), ladder.rows)
    return target, Metric(target, levels)
