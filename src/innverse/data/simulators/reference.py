"""Draws of a posterior whose density is known: rejection, and an ensemble of Markov chains."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import InnverseError

_CHUNK = 1 << 17


def rejection(
    propose: Callable[[int], Tensor],
    log_accept: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator | None = None,
    most: int = 1 << 28,
) -> Tensor:
    """``n`` draws (n, D) from the proposal, thinned by the probability exp(log_accept) <= 1.

    Raises:
        InnverseError: fewer than n accepted among ``most`` proposals.
    """
    kept: list[Tensor] = []
    found = tried = 0
    while found < n:
        if tried >= most:
            raise InnverseError(f"rejection accepted {found} of {tried} proposals, not {n}")
        theta = propose(_CHUNK)
        kept.append(theta[_log_uniform(len(theta), generator) < log_accept(theta)])
        found, tried = found + len(kept[-1]), tried + len(theta)
    return torch.cat(kept)[:n]


def _log_uniform(n: int, generator: torch.Generator | None) -> Tensor:
    """log u (n,), u uniform on (0, 1]: never -inf, which would accept what has no chance at all.
    In float32 one u of 17 million is 0."""
    return (1 - torch.rand(n, generator=generator, dtype=torch.float64)).log()


def ensemble(
    log_density: Callable[[Tensor], Tensor],
    draws: Tensor,
    n: int,
    generator: torch.Generator | None = None,
    *,
    walkers: int = 1000,
    steps: int = 400,
) -> Tensor:
    """``n`` draws (n, D) by stretch moves (Goodman & Weare 2010) of many walkers.

    The walkers start at members of ``draws`` (N, D), which should be rough draws of the target
    already (see `resample`). ``steps`` moves of every walker are discarded; after that every 20th
    state is kept.
    """
    d = draws.shape[1]
    walkers = max(walkers, 4 * d) // 2 * 2
    state = draws[torch.randint(len(draws), (walkers,), generator=generator)].clone()
    # draws that were resampled repeat: identical walkers could not stretch apart
    state = state + 1e-3 * draws.std(0) * torch.randn(state.shape, generator=generator)
    value = log_density(state)
    kept: list[Tensor] = []
    thin, needed = 20, math.ceil(n / walkers)
    for step in range(steps + thin * needed):
        order = torch.randperm(walkers, generator=generator)
        for move, fixed in (order.chunk(2), order.chunk(2)[::-1]):
            z = (torch.rand(len(move), generator=generator) + 1).square() / 2  # density z^-1/2
            partner = fixed[torch.randint(len(fixed), (len(move),), generator=generator)]
            proposal = state[partner] + z.unsqueeze(1) * (state[move] - state[partner])
            new = log_density(proposal)
            gain = (d - 1) * z.log() + new - value[move]
            take = _log_uniform(len(move), generator) < gain
            accepted = move[take]
            state[accepted], value[accepted] = proposal[take], new[take]
        if step >= steps and (step - steps) % thin == thin - 1:
            kept.append(state.clone())
    draws = torch.cat(kept)
    return draws[torch.randperm(len(draws), generator=generator)[:n]]


def resample(
    theta: Tensor, log_weight: Tensor, n: int, generator: torch.Generator | None = None
) -> Tensor:
    """``n`` of the draws theta (N, D), with replacement, by their weights."""
    log_weight = log_weight.nan_to_num(nan=-math.inf)
    w = (log_weight - log_weight.max()).exp()
    return theta[torch.multinomial(w, n, replacement=True, generator=generator)]


def by_ensemble(simulator, x: Tensor, n: int, generator=None, *, pilot: int = 100_000) -> Tensor:
    """The posterior of a simulator with a likelihood, by `ensemble` from ``pilot`` prior draws."""
    theta = simulator.prior.sample((pilot,), generator)
    parts = [simulator.log_likelihood(part, x) for part in theta.split(10_000)]
    start = resample(theta, torch.cat(parts), 2000, generator)
    return ensemble(lambda t: simulator.log_joint(t, x), start, n, generator)
