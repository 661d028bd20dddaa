"""Is a posterior right? Checks on any object that draws, or on plain arrays of draws, and repair.

Everywhere ``source`` is either an object with ``sample((n,), x=)`` (used with ``x``, N
measurements; ``sample_batched`` is taken where there is one), or draws (L, N, ...): L of each of
the N posteriors. ``theta`` (N, ...) are the true values, drawn with the measurements from prior and
simulator. Images and other shapes are flattened to (N, D). Everything is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, ShapeError, UsageError, warn
from ..seeding import drawn_seed, seeded
from .importance import Importance as Importance
from .importance import importance_weights as importance_weights

LEVELS = (0.5, 0.68, 0.9, 0.95)
ENOUGH = 400  # pairs from which a repair is sure to 2.5 % at the level of 50 %


# ---- simulation-based calibration ---------------------------------------------------------------


@dataclass(frozen=True)
class SBC:
    """Ranks (N, D) of the truth among ``draws`` draws, and p-values (D,) of their uniformity."""

    ranks: Tensor
    draws: int
    p_values: Tensor


def sbc(source, theta, x=None, *, draws: int = 1000, generator=None) -> SBC:
    """Simulation-based calibration (Talts et al. 2018, arXiv 1804.06788).

    The rank of theta among its posterior's draws is uniform on 0..draws when the posterior is
    exact. The p-value is that of a Kolmogorov-Smirnov test of the ranks, spread uniformly within
    their steps; small for a posterior that is too narrow, too wide or biased.
    """
    theta, samples = _inputs(source, theta, x, draws, generator)
    ranks = (samples < theta).sum(0)
    ties = (samples == theta).sum(0)
    g = generator or torch.Generator().manual_seed(0)
    # equal values (discrete parameters) take a random place among themselves
    ranks = ranks + (torch.rand(ranks.shape, generator=g) * (ties + 1)).floor().long()
    n = len(samples)
    u = (ranks + torch.rand(ranks.shape, generator=g, dtype=torch.float64)) / (n + 1)
    p = [kolmogorov_p(column) for column in u.T]
    return SBC(ranks, n, torch.tensor(p))


def kolmogorov_p(u: Tensor) -> float:
    """The p-value that u (N,) are draws of the uniform distribution on [0, 1]."""
    n = len(u)
    u = u.double().sort().values
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    d = float(torch.maximum(steps[1:] - u, u - steps[:-1]).max())
    # Stephens' correction makes the asymptotic law good to three digits from n = 10 on
    t = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * d
    if t < 0.3:
        return 1.0
    value = 2 * sum((-1) ** (j - 1) * math.exp(-2 * (j * t) ** 2) for j in range(1, 101))
    return min(max(value, 0.0), 1.0)


# ---- tests of accuracy with random points -------------------------------------------------------


@dataclass(frozen=True)
class TARP:
    """Expected coverage (``ecp``) at the credibility ``levels``, both (G,).

    ``area`` is the mean of ecp - level above 1/2: negative where the posterior is too narrow.
    ``p_value`` is that of the N coverage values being uniform.
    """

    levels: Tensor
    ecp: Tensor
    area: float
    p_value: float


def tarp(
    source, theta, x=None, *, draws: int = 1000, references=None, bins: int = 50, generator=None
) -> TARP:
    """Tests of accuracy with random points (Lemos et al. 2023, arXiv 2302.03026).

    The share of draws that lie closer to a random reference point than the truth is uniform when
    the posterior is exact. Distances are Euclidean, with theta scaled to [0, 1]; references (N, D)
    are uniform over the range of theta unless given.
    """
    theta, samples = _inputs(source, theta, x, draws, generator)
    g = generator or torch.Generator().manual_seed(0)
    low, high = theta.amin(0), theta.amax(0)
    span = (high - low).clamp_min(1e-300)
    if references is None:
        references = low + span * torch.rand(theta.shape, generator=g, dtype=torch.float64)
    references = torch.as_tensor(references).double().reshape(theta.shape)
    far = ((theta - references) / span).norm(dim=1)
    share = (((samples - references) / span).norm(dim=2) < far).double().mean(0)
    levels = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    ecp = (share <= levels.unsqueeze(1)).double().mean(1)
    n = len(samples)
    u = (share * n + torch.rand(share.shape, generator=g, dtype=torch.float64)) / (n + 1)
    upper = levels > 0.5
    return TARP(levels, ecp, float((ecp - levels)[upper].mean()), kolmogorov_p(u))


# ---- coverage -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Coverage:
    """The share of truths inside central intervals, ``covered`` (levels, D), at ``levels``.

    ``joint`` (levels,) is that of the highest-density regions, None where there is no density.
    ``n`` is the number of truths.
    """

    levels: Tensor
    covered: Tensor
    joint: Tensor | None
    n: int = 0

    @property
    def standard_error(self) -> Tensor:
        """By how much ``covered`` of an exact posterior varies by chance (levels,): the binomial
        sqrt(level (1 - level) / n); NaN where n is not known."""
        n = float(self.n) or math.nan
        return (self.levels * (1 - self.levels) / n).sqrt()

    @property
    def error(self) -> float:
        """The largest |covered - level| over levels, averaged over the parameters."""
        return float((self.covered - self.levels.unsqueeze(1)).abs().mean(1).max())


def coverage(
    source, theta, x=None, *, levels: Sequence[float] = LEVELS, draws: int = 1000, generator=None
) -> Coverage:
    """How often credible sets hold the truth: central intervals of each parameter, and regions of
    highest density where ``source`` has ``log_prob_batched`` (Hermans et al. 2021).
    """
    wanted = _levels(levels)
    given = _draw(source, x, draws, generator)
    kind = given.dtype
    truth, samples = _inputs(given, theta, x, draws, generator)
    low, high = central_intervals(samples, wanted)
    covered = ((truth >= low) & (truth <= high)).double().mean(1)
    joint = None
    if hasattr(source, "log_prob_batched"):
        # in the type of the draws: float32 would lose digits of some, and others know nothing else
        drawn = source.log_prob_batched(samples.to(kind), x).double()
        at_truth = source.log_prob_batched(truth.to(kind).unsqueeze(0), x)[0].double()
        mass = (drawn > at_truth).double().mean(0)
        joint = (mass <= wanted.unsqueeze(1)).double().mean(1)
    return Coverage(wanted, covered, joint, len(truth))


def central_intervals(samples: Tensor, levels) -> tuple[Tensor, Tensor]:
    """Ends (levels, N, D) of the central intervals of draws (L, N, D).

    The ends are the order statistics that make the interval of a level exactly that wide in
    probability, interpolated: q-quantiles at (L + 1) q - 1.
    """
    levels = _levels(levels)
    ordered = samples.double().sort(0).values
    n = len(ordered)

    def quantile(q: Tensor) -> Tensor:
        place = ((n + 1) * q - 1).clamp(0, n - 1)
        i = place.floor().long().clamp_max(n - 2)
        t = (place - i).view(-1, *[1] * (ordered.dim() - 1))
        return ordered[i] * (1 - t) + ordered[i + 1] * t

    return quantile((1 - levels) / 2), quantile((1 + levels) / 2)


def calibration_error(source, theta, x=None, *, draws: int = 1000, generator=None) -> float:
    """The median over confidences 1 % .. 99 % of |share of truths inside - confidence|, averaged
    over the parameters (Ardizzone et al. 2018, section 4)."""
    levels = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    theta, samples = _inputs(source, theta, x, draws, generator)
    # the smallest central interval that holds the truth has this level
    below = (samples < theta).double().sum(0) + 0.5 * (samples == theta).double().sum(0)
    needed = (2 * (below + 0.5) / (len(samples) + 1) - 1).abs()
    inside = (needed <= levels.view(-1, 1, 1)).double().mean(1)
    return float((inside - levels.unsqueeze(1)).abs().median(0).values.mean())


# ---- what was learned ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """Per measurement and parameter (N, D): posterior ``contraction`` 1 - var_post / var_prior, and
    ``z_score`` (mean_post - truth) / std_post."""

    contraction: Tensor
    z_score: Tensor


def contraction(source, theta, x=None, *, prior_variance=None, draws: int = 1000, generator=None):
    """How much the data taught, and whether it was true (Schad et al. 2021, arXiv 1904.12765).

    ``prior_variance`` (D,) is that of ``theta`` itself unless given. Returns `Learned`.
    """
    theta, samples = _inputs(source, theta, x, draws, generator)
    prior = theta.var(0) if prior_variance is None else torch.as_tensor(prior_variance).double()
    mean, variance = samples.mean(0), samples.var(0)
    return Learned(1 - variance / prior, (mean - theta) / variance.sqrt().clamp_min(1e-300))


def resimulation_error(
    source, x, simulator: Callable, *, draws: int = 100, generator=None
) -> Tensor:
    """Mean squared distance of simulations at posterior draws to the measurement, (N,).

    ``simulator`` maps theta (B, D) to x (B, ...); without its noise, the error is that of the
    posterior alone. With a ``generator`` its noise follows from it as well: the global generators
    of torch, numpy and Python are seeded by it while the simulator runs, and restored.
    """
    x = torch.as_tensor(x)
    samples = _draw(source, x, draws, generator)
    if not samples.numel():
        raise InputError("re-simulation needs draws and measurements: there are none")
    with seeded(drawn_seed(generator)):
        again = torch.as_tensor(simulator(samples.reshape(-1, *samples.shape[2:])))
    if len(again) != samples.shape[0] * samples.shape[1]:
        raise ShapeError(
            f"the simulator returned {tuple(again.shape)} for {samples[..., 0].numel()} parameters"
        )
    again = again.reshape(len(samples), len(x), -1).double()
    return (again - x.reshape(len(x), -1).double()).square().sum(2).mean(0)


# ---- repair -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recalibration:
    """Intervals that hold the truth as often as they say, made by `recalibrate`.

    Attributes:
        levels: (G,) of the table; factors: (G, D), how many times wider (or narrower) the central
            interval of each level has to be on both sides of the median.
        n: calibration pairs.
    """

    levels: Tensor
    factors: Tensor
    n: int

    def standard_error(self, levels: Sequence[float] | Tensor = LEVELS) -> Tensor:
        """By how much the coverage of the repaired intervals misses ``levels`` by chance of the
        pairs it was learned from: the deviation of the law Beta(k, n + 1 - k), k = ceil((n + 1)
        level), that the coverage of a conformal interval follows."""
        k = ((self.n + 1) * _levels(levels) - 1e-9).ceil().clamp(1, self.n)
        mean = k / (self.n + 1)
        return (mean * (1 - mean) / (self.n + 2)).sqrt()

    def intervals(
        self, source, x=None, *, levels: Sequence[float] = LEVELS, draws: int = 1000, generator=None
    ) -> tuple[Tensor, Tensor]:
        """Repaired central intervals, ends (levels, N, D), for a posterior and measurements x, or
        for draws (L, N, D)."""
        wanted = _levels(levels)
        samples = _flat(_draw(source, x, draws, generator), 2)
        low, high = central_intervals(samples, wanted)
        middle = samples.median(0).values
        f = self.factors_at(wanted).unsqueeze(1)
        return middle + f * (low - middle), middle + f * (high - middle)

    def samples(self, samples) -> Tensor:
        """Draws (L, N, ...) moved so that their central intervals are the repaired ones.

        Each parameter keeps the order of its draws, so their dependence stays as it was.
        """
        given = torch.as_tensor(samples)
        flat = _flat(given, 2).double()
        n = len(flat)
        ordered, order = flat.sort(0)
        middle = flat.median(0).values
        # the level of the central interval that ends at each order statistic
        level = (2 * (torch.arange(n, dtype=torch.float64) + 1) / (n + 1) - 1).abs()
        moved = middle + self.factors_at(level).unsqueeze(1) * (ordered - middle)
        moved = moved.sort(0).values
        return torch.empty_like(flat).scatter_(0, order, moved).reshape(given.shape).to(given.dtype)

    def to_json(self) -> dict:
        """Numbers for a file; `from_json` makes the same again."""
        return {"levels": self.levels.tolist(), "factors": self.factors.tolist(), "n": self.n}

    @classmethod
    def from_json(cls, made: dict) -> Recalibration:
        """What `to_json` gave; InputError for anything else."""
        try:
            levels, factors = (torch.tensor(made[k]).double() for k in ("levels", "factors"))
            return cls(levels, factors, int(made["n"]))
        except (KeyError, TypeError, ValueError):
            raise InputError("not a recalibration: it needs levels, factors and n") from None

    def factors_at(self, levels) -> Tensor:
        """The factors (len(levels), D), interpolated in the table and constant beyond its ends."""
        levels = torch.as_tensor(levels, dtype=torch.float64).clamp(self.levels[0], self.levels[-1])
        i = torch.searchsorted(self.levels, levels).clamp(1, len(self.levels) - 1)
        left, right = self.levels[i - 1], self.levels[i]
        t = ((levels - left) / (right - left)).unsqueeze(1)
        return self.factors[i - 1] * (1 - t) + self.factors[i] * t


def recalibrate(source, theta, x=None, *, draws: int = 1000, generator=None) -> Recalibration:
    """Conformal repair of credible intervals, from pairs that were not used for training.

    For each level and parameter, the central interval is stretched about the median by the
    smallest factor with which it covers ceil((N + 1) level) of the N truths: split conformal
    prediction with a quantile score (Romano et al. 2019, arXiv 1905.03222), so that the interval
    of a new measurement holds its truth with at least that probability, whatever the posterior.
    On average over measurements: it says nothing of each single one. The table has the levels
    5 %, 10 %, ... and those of `LEVELS`, as high as N allows.

    The fewer the pairs, the more the repaired coverage misses its level by chance
    (`Recalibration.standard_error`): 8 % at the level of 50 % for 40 pairs, which makes a posterior
    worse that was nearly right. Below 400 pairs (2.5 %) there is a warning.

    Raises:
        InputError: fewer than 20 pairs.
    """
    theta, samples = _inputs(source, theta, x, draws, generator)
    n = len(theta)
    if n < 20:
        raise InputError(f"{n} pairs are too few to recalibrate: give at least 20, better 1000")
    table = sorted({*(0.05 * k for k in range(1, 20)), *LEVELS, 0.975, 0.99})
    if n < ENOUGH:
        chance = 100 * math.sqrt(0.25 / (n + 2))
        warn(
            f"a repair learned from {n} pairs is uncertain: its intervals of 50 % may hold "
            f"{50 - chance:.0f} to {50 + chance:.0f} % of the truths, and it can make a good "
            f"posterior worse; give at least {ENOUGH} pairs",
        )
    # the k-th smallest of n scores, k = ceil((n + 1) level), must exist, and draws must reach
    top = min(n / (n + 1), 1 - 2 / (len(samples) + 1))
    levels = _levels([level for level in table if level <= top])
    low, high = central_intervals(samples, levels)
    middle = samples.median(0).values
    up = (theta - middle) / (high - middle).clamp_min(1e-300)
    down = (middle - theta) / (middle - low).clamp_min(1e-300)
    score = torch.where(theta >= middle, up, down)  # (levels, N, D), the factor each truth needs
    # the tiny subtraction keeps (n + 1) * level from being rounded over a whole number
    k = ((n + 1) * levels - 1e-9).ceil().long().clamp(1, n) - 1
    ordered = score.sort(1).values
    factors = ordered[torch.arange(len(levels)), k]
    return Recalibration(levels, factors, n)


def reweight(
    posterior, x, log_joint: Callable, *, draws: int = 10_000, generator=None
) -> tuple[Tensor, Importance]:
    """Draws (n, D) of a posterior with weights that make them exact, for one measurement x.

    ``log_joint(theta, x)`` is log p(theta) + log p(x | theta), (n, D) -> (n,). The weights' ESS
    and Pareto k say whether to trust them; their ``log_evidence`` estimates log p(x).
    """
    options = {} if generator is None else {"generator": generator}
    theta = posterior.sample((draws,), x=x, **options)
    target = torch.as_tensor(log_joint(theta, x))
    return theta, importance_weights(target, posterior.log_prob(theta, x=x))


# ---- inside -------------------------------------------------------------------------------------


def _inputs(source, theta, x, draws: int, generator) -> tuple[Tensor, Tensor]:
    """theta (N, D) and draws (L, N, D), float64, of fitting shapes."""
    theta = torch.as_tensor(theta)
    theta = _flat(theta.unsqueeze(1) if theta.dim() == 1 else theta, 1).double()
    samples = _draw(source, x, draws, generator)
    samples = samples.unsqueeze(2) if samples.dim() == 2 else samples
    samples = _flat(samples, 2).double()
    if samples.shape[1:] != theta.shape:
        raise ShapeError(
            f"draws {tuple(samples.shape)} do not fit theta {tuple(theta.shape)}: draws are "
            "(draws, N, D), theta is (N, D)"
        )
    if len(samples) < 2:
        raise InputError("calibration needs at least 2 draws of every posterior")
    if not bool(theta.isfinite().all() and samples.isfinite().all()):
        raise InputError("theta or the draws contain NaN or infinite values")
    return theta, samples


def _draw(source, x, draws: int, generator) -> Tensor:
    """Draws (L, N, ...) from an object, or the array itself."""
    if not hasattr(source, "sample"):
        samples = torch.as_tensor(source)
        if samples.dim() < 2:
            raise ShapeError(f"draws must be (draws, N, D), got {tuple(samples.shape)}")
        return samples
    if x is None:
        raise UsageError("a posterior needs the measurements: pass x, one row per row of theta")
    options = {} if generator is None else {"generator": generator}
    if hasattr(source, "sample_batched"):
        return torch.as_tensor(source.sample_batched((draws,), x, **options))
    each = [torch.as_tensor(source.sample((draws,), x=row, **options)) for row in x]
    return torch.stack(each, 1)


def _flat(t: Tensor, lead: int) -> Tensor:
    return t.reshape(*t.shape[:lead], -1)


def _levels(levels) -> Tensor:
    levels = torch.as_tensor(levels, dtype=torch.float64).reshape(-1)
    if not len(levels) or not bool(((levels >= 0) & (levels <= 1)).all()):
        raise UsageError("levels are probabilities between 0 and 1")
    return levels
