"""Have the chains of an item met, and if not, which of them stands apart and by how much?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...metrics.chains import effective_size, effective_size_of_tails, r_hat

ALIKE, ALIKE_ALL = 1.05, 1.1  # R-hat of 99 % of the pixels, and of all
ENOUGH = 50  # effective draws of the median pixel
_STUCK = 0.01  # acceptance below which a chain counts as one that never moved
_FEWEST = 4  # draws of a chain, of which both halves have a spread
_PIXELS = 4096  # at once, in double precision


@dataclass
class Verdict:
    """Of one item: R-hat and effective sizes (C, H, W), "converged" or what speaks against it, and a
    line on each chain that stands apart."""

    r_hat: Tensor
    ess_bulk: Tensor
    ess_tail: Tensor
    status: str
    bad_chains: list[str]


def judge_chains(draws: Tensor, log_p: Tensor, acceptance: Tensor, diverged: Tensor) -> Verdict:
    """What the draws (chains, n, C, H, W) of an item say of themselves.

    Args:
        log_p: of each draw (chains, n), in nats.
        acceptance: of each chain (chains,), from 0 to 1.
        diverged: share of the trajectories of each chain that diverged (chains,).
    """
    r, bulk, tail = agreement(draws)
    bad = _stuck(acceptance, diverged)
    status = verdict(r, bulk)
    if bool((acceptance <= 0).all()):
        why = "every trajectory diverged" if bool((diverged >= 1).all()) else "no chain ever moved"
        status = f"failed: {why}; is the density finite there, and smooth?"
    elif bad:
        status = f"not converged: {'; '.join(bad)}; use more warmup"
    elif status.startswith("not converged: the chains disagree"):
        bad = _apart(draws, log_p, r)
        status = f"not converged: {bad[0]}; raise warmup and draws" if bad else status
    return Verdict(r, bulk, tail, status, bad)


def agreement(draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """R-hat and effective sizes, bulk and tails, of each pixel (C, H, W) of draws (chains, n, C, H, W);
    NaN where chains are too short to be compared."""
    if draws.shape[1] < _FEWEST:
        unknown = torch.full(draws.shape[2:], torch.nan, dtype=torch.float64, device=draws.device)
        return unknown, unknown, unknown
    r, bulk, tail = (_by_pixels(f, draws) for f in (r_hat, effective_size, effective_size_of_tails))
    return r, bulk, tail


def verdict(r: Tensor, size: Tensor) -> str:
    """ "converged", or what R-hat and effective sizes of the pixels of an item say against it."""
    if bool(torch.isnan(r).all() & torch.isnan(size).all()):
        return f"not converged: chains of less than {_FEWEST} draws cannot be compared; raise draws"
    if not bool(torch.isfinite(r).all()):
        return "not converged: some pixels never moved; use more warmup"
    if not _agree(r):
        return (
            f"not converged: the chains disagree (R-hat {_most(r):.2f} for 99 % of the pixels, "
            f"{float(r.max()):.2f} at most); raise warmup and draws"
        )
    if float(size.median()) < ENOUGH:
        return f"not converged: only {float(size.median()):.0f} effective draws; raise draws"
    return "converged"


def _agree(r: Tensor) -> bool:
    return _most(r) <= ALIKE and float(r.max()) <= ALIKE_ALL


def _most(r: Tensor) -> float:
    return float(r.flatten().quantile(0.99))


def _stuck(acceptance: Tensor, diverged: Tensor) -> list[str]:
    return [
        f"chain {c} of {len(acceptance)} never moved (acceptance {a:.2f}, {100 * d:.0f} % of its "
        "trajectories diverged)"
        for c, (a, d) in enumerate(zip(acceptance.tolist(), diverged.tolist(), strict=True))
        if a < _STUCK
    ]


def _apart(draws: Tensor, log_p: Tensor, r: Tensor) -> list[str]:
    """The chain without which the others agree much better, in words; none of two chains."""
    chains = len(draws)
    if chains < 3:
        return []
    means, within = draws.double().mean(1), draws.double().var(1).mean(0).sqrt()
    seen = within > 0
    without = []
    for c in range(chains):
        others = [i for i in range(chains) if i != c]
        kept = draws[torch.tensor(others, device=draws.device)]
        without.append(_most(_by_pixels(r_hat, kept)))
    worst = min(range(chains), key=without.__getitem__)
    # of all chains but one that disagree no less, none is to blame
    if without[worst] - 1 > 0.5 * (_most(r) - 1):
        return []
    others = [i for i in range(chains) if i != worst]
    off = (means[worst] - means[others].mean(0))[seen] / within[seen]
    nats = float(log_p[worst].mean() - log_p[others].mean())
    words = (
        f"chain {worst} of {chains} stands apart (R-hat {_most(r):.2f} with it, "
        f"{without[worst]:.2f} without; its mean is {float(off.square().mean().sqrt()):.2g} standard "
        f"deviations off, root mean square of the pixels, its log-density {nats:+.3g} nats)"
    )
    return [words]


def _by_pixels(f: Callable[[Tensor], Tensor], draws: Tensor) -> Tensor:
    """``f`` of draws (chains, n, ...), a part of the pixels at a time."""
    flat = draws.flatten(2)
    return torch.cat([f(part) for part in flat.split(_PIXELS, 2)]).view(draws.shape[2:])
