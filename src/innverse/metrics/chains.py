"""Have the chains of a sampler met, and how many independent draws are they worth?

Rank-normalised split R-hat and effective sample sizes of Vehtari et al. 2021 (Bayesian Analysis 16,
arXiv 1903.08008), for many quantities at once, in float64. NaN of a quantity whose draws hold NaN.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ShapeError

__all__ = ["effective_size", "effective_size_of_tails", "r_hat"]

_TAILS = (0.05, 0.95)


def r_hat(draws: Tensor) -> Tensor:
    """The larger of R-hat of location and of spread; 1 where the chains agree.

    Args:
        draws: (chains, n, ...) of n >= 4 steps of each chain.

    Returns:
        a value (...) for each quantity; NaN where it never changed. That of one chain compares its
        halves.
    """
    split = _split(draws)
    folded = (split - _median(split.flatten(0, 1))).abs()
    both = torch.maximum(_r_hat(_normal_scores(split)), _r_hat(_normal_scores(folded)))
    return both.view(draws.shape[2:])


def effective_size(draws: Tensor) -> Tensor:
    """How many independent draws would tell the bulk (mean, median) as well.

    (chains, n, ...) -> (...); of what never changed, as many as there are.
    """
    return _effective(_normal_scores(_split(draws))).view(draws.shape[2:])


def effective_size_of_tails(draws: Tensor) -> Tensor:
    """Likewise of the 5 % and 95 % quantiles: the smaller of the two; (chains, n, ...) -> (...)."""
    split = _split(draws)
    ordered = draws.double().reshape(-1, split.shape[2]).sort(0).values
    below = (split <= _between(ordered, q * (len(ordered) - 1)) for q in _TAILS)
    sizes = torch.minimum(*(_effective(b.double()) for b in below))
    return torch.where(ordered.isnan().any(0), torch.nan, sizes).view(draws.shape[2:])


def _median(values: Tensor) -> Tensor:
    """Of (n, D): halfway between the two in the middle, so that both are as far from it."""
    ordered, last = values.sort(0).values, len(values) - 1
    return 0.5 * (ordered[last // 2] + ordered[(last + 1) // 2])


def _between(ordered: Tensor, place: float) -> Tensor:
    low = math.floor(place)
    return torch.lerp(ordered[low], ordered[math.ceil(place)], place - low)


def _split(draws: Tensor) -> Tensor:
    """(chains, n, ...) -> halves of the chains (2 chains, n // 2, D), in float64."""
    if draws.dim() < 2 or draws.shape[1] < 4:
        raise ShapeError(
            f"draws must be (chains, n, ...) with n >= 4 steps of each, got {tuple(draws.shape)}"
        )
    half = draws.shape[1] // 2
    flat = draws.double().reshape(*draws.shape[:2], -1)
    return torch.cat((flat[:, :half], flat[:, -half:]))


def _normal_scores(draws: Tensor) -> Tensor:
    """Each value by the quantile of its rank under N(0, 1); equal values share their mean rank."""
    pooled = draws.flatten(0, 1).T.contiguous()
    ordered = pooled.sort(1).values
    below = torch.searchsorted(ordered, pooled, side="left")
    up_to = torch.searchsorted(ordered, pooled, side="right")
    rank = 0.5 * (below + up_to + 1).double()
    share = (rank - 0.375) / (pooled.shape[1] + 0.25)
    share = torch.where(pooled.isnan().any(1, keepdim=True), torch.nan, share)
    return (math.sqrt(2) * torch.erfinv(2 * share - 1)).T.reshape(draws.shape)


def _r_hat(draws: Tensor) -> Tensor:
    n = draws.shape[1]
    within = draws.var(1).mean(0)
    between = draws.mean(1).var(0)
    return ((n - 1) / n + between / within).sqrt()


def _effective(draws: Tensor) -> Tensor:
    """From autocorrelations summed by Geyer's initial monotone sequence (1992)."""
    chains, n, _ = draws.shape
    covariance = _autocovariance(draws).mean(0)
    within = covariance[0] * n / (n - 1)
    total = within * (n - 1) / n
    if chains > 1:
        total = total + draws.mean(1).var(0)
    rho = 1 - (within - covariance) / total
    rho[0] = 1.0
    pairs = rho[: n - n % 2].view(n // 2, 2, -1).sum(1)
    going = torch.ones_like(pairs[0], dtype=torch.bool)
    tau, smallest = torch.zeros_like(pairs[0]), pairs[0]
    last_even = torch.zeros_like(pairs[0])
    last = max(-(-(n - 2) // 2) - 1, 0)  # lags near n are too noisy to count
    for k in range(last + 1):
        positive = going & (pairs[k] > 0) & (k < last)
        # of the pair at which the sum ends the even term counts, where that or the pair is positive
        even = torch.where(pairs[k] >= 0, rho[2 * k], rho[2 * k].clamp_min(0))
        last_even = torch.where(going & ~positive, even, last_even)
        going = positive
        smallest = torch.minimum(smallest, pairs[k])
        tau = tau + torch.where(going, smallest, 0.0)
    tau = (2 * tau - 1 + last_even).clamp_min(1 / math.log10(chains * n))
    never = (draws == draws[:1, :1]).flatten(0, 1).all(0)
    size = torch.where(total.isnan(), torch.nan, chains * n / tau)
    return torch.where(never, float(chains * n), size)


def _autocovariance(draws: Tensor) -> Tensor:
    """(chains, n, D) -> the same shape, by lag."""
    n = draws.shape[1]
    centred = draws - draws.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, 2 * n, dim=1)
    return torch.fft.irfft(spectrum.abs().square(), 2 * n, dim=1)[:, :n] / n
