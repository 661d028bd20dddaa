"""Are ranks uniform? Tests, simultaneous bands, and the correction for many tests at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...errors import InputError, UsageError


def kolmogorov_p(u: Tensor) -> float:
    """The p-value that u (N,) are draws of the uniform distribution on [0, 1].

    Example:
        >>> from innverse.metrics.calibration import kolmogorov_p
        >>> kolmogorov_p((torch.arange(100) + 0.5) / 100)
        1.0
    """
    n = len(u)
    if n == 0:
        raise InputError("a test of uniformity needs values: there are none")
    u = u.double().sort().values
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    d = float(torch.maximum(steps[1:] - u, u - steps[:-1]).max())
    # Stephens' correction makes the asymptotic law good to three digits from n = 10 on
    t = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * d
    if t < 0.3:
        return 1.0
    value = 2 * sum((-1) ** (j - 1) * math.exp(-2 * (j * t) ** 2) for j in range(1, 101))
    return min(max(value, 0.0), 1.0)


def counts_p(ranks: Tensor, draws: int, bins: int) -> Tensor:
    """p-values (D,) of the chi-square test that ranks (N, D) on 0..draws are uniform.

    ``bins`` must divide draws + 1, so that each holds as many ranks.

    Example:
        >>> from innverse.metrics.calibration import counts_p
        >>> counts_p(torch.arange(100).view(-1, 1), draws=99, bins=20)
        tensor([1.], dtype=torch.float64)
    """
    if (draws + 1) % bins:
        raise UsageError(f"bins={bins} does not divide the {draws + 1} ranks: take a divisor")
    if not ranks.numel() or not bool(((ranks >= 0) & (ranks <= draws)).all()):
        raise InputError(f"ranks lie on 0..{draws}")
    place = ranks.reshape(len(ranks), -1) * bins // (draws + 1)
    counts = torch.stack([torch.bincount(column, minlength=bins) for column in place.T]).double()
    expected = len(ranks) / bins
    chi = (counts - expected).square().sum(1) / expected
    return torch.special.gammaincc(torch.full_like(chi, (bins - 1) / 2), chi / 2)


def holm(p_values) -> Tensor:
    """p-values adjusted for being many (Holm 1979): where all hypotheses are true, the smallest is
    below a with probability a at most, whatever their dependence.

    Example:
        >>> from innverse.metrics.calibration import holm
        >>> holm([0.01, 0.04, 0.5])
        tensor([0.0300, 0.0800, 0.5000], dtype=torch.float64)
    """
    p = torch.as_tensor(p_values, dtype=torch.float64)
    ordered, order = p.flatten().sort()
    left = torch.arange(len(ordered), 0, -1)
    adjusted = (ordered * left).cummax(0).values.clamp(max=1)
    return torch.empty_like(ordered).scatter_(0, order, adjusted).view_as(p)


# ---- simultaneous bands -------------------------------------------------------------------------


def ecdf_band(n: int, draws: int, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """Between which bounds the whole empirical distribution of n uniform ranks on 0..draws lies.

    Säilynoja, Bürkner & Vehtari 2022 (arXiv 2103.10522), by exact recursion over the ranks.

    Args:
        n: number of ranks.
        draws: their maximum; more than 200 are judged at 200 of them.
        level: probability that it lies inside everywhere.

    Returns:
        lower and upper (J,): the shares of ranks below j, j = 1..draws (see `ecdf`).

    Example:
        >>> from innverse.metrics.calibration import ecdf_band
        >>> lower, upper = ecdf_band(100, 19)
        >>> [round(float(b[9]), 2) for b in (lower, upper)]  # around 1/2
        [0.37, 0.63]
    """
    if not 0 < level < 1:
        raise UsageError(f"level={level!r}: give a probability between 0 and 1")
    if n < 1:
        raise InputError("a band is that of at least one rank")
    table = _binomial(n, _points(draws))
    low, high = math.log(1e-12), 0.0
    for _ in range(25):
        middle = (low + high) / 2
        inside = _stays(*_bounds(table, math.exp(middle)), _points(draws), n)
        low, high = (middle, high) if inside > level else (low, middle)
    lower, upper = _bounds(table, math.exp(low))
    return lower.double() / n, upper.double() / n


def ecdf(ranks: Tensor, draws: int) -> Tensor:
    """The shares (J, D) of ranks (N, D) below those at which `ecdf_band` judges."""
    below = (_points(draws) * (draws + 1)).round().long()
    return torch.stack([(ranks < k).double().mean(0) for k in below])


def ecdf_p(ranks: Tensor, draws: int) -> Tensor:
    """p-values (D,): the largest at whose level the distribution leaves its band; exact."""
    n, points = len(ranks), _points(draws)
    table = _binomial(n, points)
    at = (ecdf(ranks, draws) * n).round().long()
    row = torch.arange(len(points)).unsqueeze(1)
    left = table[row, at + 1]  # P(K <= at)
    right = 1 - table[row, at]  # P(K >= at)
    tail = (2 * torch.minimum(left, right).amin(0)).clamp(max=1)
    return torch.tensor(
        # the bounds just wide enough not to hold what was seen
        [1 - _stays(*_bounds(table, float(t) * (1 + 1e-9)), points, n) for t in tail],
        dtype=torch.float64,
    )


def _points(draws: int) -> Tensor:
    """P(rank < j) at the ranks j that are judged."""
    if draws < 1:
        raise InputError("ranks need at least one draw")
    j = torch.linspace(1, draws, min(draws, 200), dtype=torch.float64).round()
    return j / (draws + 1)


def _binomial(n: int, points: Tensor) -> Tensor:
    """P(K <= k - 1) for K ~ Binomial(n, point), k = 0..n + 1; (J, n + 2)."""
    k = torch.arange(n + 1, dtype=torch.float64)
    choose = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    p = points.unsqueeze(1)
    mass = (choose + k * p.log() + (n - k) * (-p).log1p()).exp()
    return torch.nn.functional.pad(mass.cumsum(1), (1, 0)).clamp(max=1)


def _bounds(table: Tensor, tail: float) -> tuple[Tensor, Tensor]:
    """The counts between which each point stays with probability >= 1 - tail; (J,) each.

    A count is outside where the probability of it or less, or of it or more, is below tail / 2.
    """
    lower = (table[:, 1:] < tail / 2).sum(1)
    upper = table.shape[1] - 2 - (1 - table[:, :-1] < tail / 2).sum(1)
    return lower, upper


def _stays(lower: Tensor, upper: Tensor, points: Tensor, n: int) -> float:
    """P(lower <= counts below each point <= upper), the counts being a Markov chain."""
    k = torch.arange(n + 1, dtype=torch.float64)
    log_factorial = torch.lgamma(torch.arange(n + 1, dtype=torch.float64) + 1)
    mass, before, at = torch.ones(1, dtype=torch.float64), 0, 0.0
    for low, high, point in zip(lower.tolist(), upper.tolist(), points.tolist(), strict=True):
        if low > high:
            return 0.0
        share = (point - at) / (1 - at)  # of those not yet below
        old = torch.arange(before, before + len(mass)).unsqueeze(1)
        new = torch.arange(low, high + 1).unsqueeze(0)
        more, left = new - old, n - old
        possible = (more >= 0) & (more <= left)
        more = more.clamp(0, n).minimum(left.clamp_min(0))
        log_step = (
            log_factorial[left] - log_factorial[more] - log_factorial[left - more]
            + k[more] * math.log(share) + k[left - more] * math.log1p(-share)
        )  # fmt: skip
        step = torch.where(possible, log_step.exp(), 0.0)
        mass, before, at = mass @ step, low, point
    return min(1.0, float(mass.sum()))
