"""A ladder of noise levels, and who climbs it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...problem import Problem

# sqrt(d) times the log ratio x of neighbours. N(0, sigma^2 I) in d dimensions swap with probability
# erfc(x sqrt(d / 2)): .37 here; near .5 most round trips are made for the cost (Syed et al. 2022)
_OVERLAP = 0.9
_MOST = 64  # levels
_FLOOR = 0.02  # a rate of rejections below which a pair counts as this
_UP, _DOWN = 1, 2  # where an image that was at an end of the ladder is heading


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
        """Evenly in log sigma; ``count`` None: as many levels as neighbours need to overlap, in the
        item that needs most."""
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


@torch.no_grad()
def free_dimensions(problem: Problem, level: float) -> float:
    """Of an image known to within ``level``, those that the data leave free: tr (I + A^T A r)^-1
    with r = (level / noise)^2, the largest of all items, by one random probe (Hutchinson)."""
    rho = (problem.deviation() / level).square()
    # one probe for all: what an item gets does not depend on those beside it
    probe = torch.randn(problem.shape, generator=torch.Generator().manual_seed(0)).sign()
    probe = probe.to(problem.y).expand(problem.batch, *problem.shape)
    solved = problem.physics.solve_normal(probe, rho, tol=1e-3) * rho.view(-1, 1, 1, 1)
    return float((probe * solved).flatten(1).sum(1).max().clamp_min(1.0))
