"""Simulation-based calibration: where does the truth rank among its posterior's draws?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ...errors import UsageError
from .draws import Quantity, own, truth_and_draws, values
from .uniform import ecdf, ecdf_band, kolmogorov_p

State = TypeVar("State")


@dataclass(frozen=True)
class SBC:
    """Ranks (N, D) of the truth among ``draws`` draws, and p-values (D,) of their uniformity."""

    ranks: Tensor
    draws: int
    p_values: Tensor

    @property
    def ecdf(self) -> Tensor:
        """The shares (J, D) of ranks below j = 1..draws."""
        return ecdf(self.ranks, self.draws)

    def band(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """The bounds (J,) between which the whole of an `ecdf` lies with this probability."""
        return ecdf_band(len(self.ranks), self.draws, level)

    def inside(self, level: float = 0.95) -> Tensor:
        """Which `ecdf` lies inside the `band` (D,)."""
        lower, upper = (b.unsqueeze(1) - s for b, s in zip(self.band(level), (1e-9, -1e-9)))
        return ((self.ecdf >= lower) & (self.ecdf <= upper)).all(0)


def sbc(
    source,
    theta,
    x=None,
    *,
    draws: int = 1000,
    of: Quantity | None = None,
    generator: torch.Generator | None = None,
) -> SBC:
    """Simulation-based calibration (Talts et al. 2018, arXiv 1804.06788).

    The rank of theta among its posterior's draws is uniform on 0..draws when the posterior is
    exact. The p-value is that of a Kolmogorov-Smirnov test of the ranks, spread uniformly within
    their steps; small for a posterior that is too narrow, too wide or biased.

    ``of`` ranks what it says of theta and of the draws instead of their coordinates. A quantity of
    the data as well, such as log p(x | theta), finds errors that coordinates alone hide: draws of
    the prior have uniform ranks, whatever the data (Modrák et al. 2023, arXiv 2211.02383).

    Example:
        >>> from innverse.metrics.calibration import sbc
        >>> images, draws = torch.randn(100, 1, 8, 8), torch.randn(99, 100, 1, 8, 8)
        >>> found = sbc(draws, images, of=lambda u: u.mean((1, 2, 3)))
        >>> found.ranks.shape, found.inside(0.999)
        (torch.Size([100, 1]), tensor([True]))
    """
    theta, samples = truth_and_draws(source, theta, x, draws, generator, of)
    g = own(generator)
    return _sbc((samples < theta).sum(0), (samples == theta).sum(0), len(samples), g)


def rank_test(
    start: State,
    kernel: Callable[[State], State],
    of: Callable[[State], Tensor],
    *,
    length: int = 20,
    generator: torch.Generator | None = None,
) -> SBC:
    """The exact rank test of a reversible Markov chain (Gandy & Scott 2020, arXiv 2001.06465).

    theta drawn from the prior is an exact draw of p(theta | x) for the x made from it: a right chain
    that starts there is stationary, and theta hidden at a random place of it, run forwards and
    backwards, has a uniform rank. No chain has to converge.

    Args:
        start: of N chains, draws of their stationary distributions: a tensor (N, ...), or an object
            with ``where(these, other)``, which is ``other`` for these (N,) chains and else itself.
        kernel: one transition of all chains. One that is tuned must have been tuned on others.
        of: state -> values (N,) or (N, K) to be ranked.
        length: states of each chain; ranks lie on 0..length - 1.

    Example:
        >>> from innverse.metrics.calibration import rank_test
        >>> right = rank_test(
        ...     torch.randn(1000),
        ...     kernel=lambda u: 0.8 * u + 0.6 * torch.randn(1000),  # keeps N(0, 1)
        ...     of=lambda u: u,
        ... )
        >>> right.ranks.shape, bool(right.p_values > 0.01)
        (torch.Size([1000, 1]), True)
    """
    if length < 2:
        raise UsageError(f"length={length}: give chains of at least 2 states")
    g = own(generator)
    truth = _rows(of(start))
    ahead = torch.randint(length, (len(truth),), generator=g)  # transitions forwards, then back
    below, equal = (torch.zeros(truth.shape, dtype=torch.long) for _ in range(2))
    state = start
    for k in range(length - 1):
        state = kernel(_where(ahead == k, start, state))
        found = _rows(of(state))
        below += found < truth
        equal += found == truth
    return _sbc(below, equal, length - 1, g)


def _where(these: Tensor, other, state):
    if isinstance(state, Tensor):
        return torch.where(these.view(-1, *[1] * (state.dim() - 1)), other, state)
    return state.where(these, other)


def _rows(found: Tensor) -> Tensor:
    return values(lambda it: it, found).cpu().double()


def _sbc(below: Tensor, equal: Tensor, draws: int, g: torch.Generator) -> SBC:
    # equal values (discrete parameters, moves that were refused) take a random place among themselves
    ranks = below + (torch.rand(below.shape, generator=g) * (equal + 1)).floor().long()
    u = (ranks + torch.rand(ranks.shape, generator=g, dtype=torch.float64)) / (draws + 1)
    return SBC(ranks, draws, torch.tensor([kolmogorov_p(column) for column in u.T]))
