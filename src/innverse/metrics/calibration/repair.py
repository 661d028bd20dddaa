"""Intervals that hold the truth as often as they say: conformal recalibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError, ShapeError, warn
from .credible import central_intervals
from .draws import LEVELS, checked_levels, drawn, flat, tensor, truth_and_draws

ENOUGH = 400  # pairs from which a repair is sure to 2.5 % at the level of 50 %


@dataclass(frozen=True)
class Recalibration:
    """Intervals that hold the truth as often as they say, made by `recalibrate`.

    Attributes:
        levels: (G,) of the table; factors: (G, D), how many times wider (or narrower) the central
            interval of each level has to be on both sides of the median; (G, 1) if all parameters
            share them.
        n: calibration pairs.
        errors: (G,), by how much the coverage varies by chance where parameters share factors.
    """

    levels: Tensor
    factors: Tensor
    n: int
    errors: Tensor | None = None

    def standard_error(self, levels: Sequence[float] | Tensor = LEVELS) -> Tensor:
        """By how much the coverage of the repaired intervals misses ``levels`` by chance of the
        pairs it was learned from: the deviation of the law Beta(k, n + 1 - k), k = ceil((n + 1)
        level), that the coverage of a conformal interval follows; of factors that parameters share,
        that of the mean of so many pictures, as they differ."""
        levels = checked_levels(levels)
        if self.errors is not None:
            return self._interpolated(self.errors.unsqueeze(1), levels)[:, 0]
        k = _rank(self.n, levels).clamp(1, self.n)
        mean = k / (self.n + 1)
        return (mean * (1 - mean) / (self.n + 2)).sqrt()

    def intervals(
        self, source, x=None, *, levels: Sequence[float] = LEVELS, draws: int = 1000, generator=None
    ) -> tuple[Tensor, Tensor]:
        """Repaired central intervals, ends (levels, N, D), for a posterior and measurements x, or
        for draws (L, N, D)."""
        wanted = checked_levels(levels)
        samples = self._fitting(flat(drawn(source, x, draws, generator), 2))
        low, high = central_intervals(samples, wanted)
        middle = samples.median(0).values
        f = self.factors_at(wanted).unsqueeze(1)
        return middle + f * (low - middle), middle + f * (high - middle)

    def samples(self, samples) -> Tensor:
        """Draws (L, N, ...) moved so that their central intervals are the repaired ones.

        Each parameter keeps the order of its draws, so their dependence stays as it was.
        """
        given = torch.as_tensor(samples)
        moved = self._fitting(flat(given, 2)).double()
        n = len(moved)
        ordered, order = moved.sort(0)
        middle = moved.median(0).values
        # the level of the central interval that ends at each order statistic
        level = (2 * (torch.arange(n, dtype=torch.float64) + 1) / (n + 1) - 1).abs()
        ends = middle + self.factors_at(level).unsqueeze(1) * (ordered - middle)
        ends = ends.sort(0).values
        return torch.empty_like(moved).scatter_(0, order, ends).reshape(given.shape).to(given.dtype)

    def _fitting(self, samples: Tensor) -> Tensor:
        if self.factors.shape[1] not in (1, samples.shape[2]):
            raise ShapeError(
                f"the repair is that of {self.factors.shape[1]} parameters, and the draws have "
                f"{samples.shape[2]}"
            )
        return samples

    def to_json(self) -> dict:
        """Numbers for a file; `from_json` makes the same again."""
        made = {"levels": self.levels.tolist(), "factors": self.factors.tolist(), "n": self.n}
        return made if self.errors is None else made | {"errors": self.errors.tolist()}

    @classmethod
    def from_json(cls, made: dict) -> Recalibration:
        """What `to_json` gave; InputError for anything else."""
        try:
            numbers = {k: torch.tensor(v, dtype=torch.float64) for k, v in made.items() if k != "n"}
            return cls(**numbers, n=int(made["n"]))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError("not a recalibration: it needs levels, factors and n") from None

    def factors_at(self, levels) -> Tensor:
        """The factors (len(levels), D), interpolated in the table and constant beyond its ends."""
        return self._interpolated(self.factors, torch.as_tensor(levels, dtype=torch.float64))

    def _interpolated(self, table: Tensor, levels: Tensor) -> Tensor:
        levels = levels.clamp(self.levels[0], self.levels[-1])
        i = torch.searchsorted(self.levels, levels).clamp(1, len(self.levels) - 1)
        left, right = self.levels[i - 1], self.levels[i]
        t = ((levels - left) / (right - left)).unsqueeze(1)
        return table[i - 1] * (1 - t) + table[i] * t


def recalibrate(
    source, theta, x=None, *, draws: int = 1000, shared: bool | None = None, generator=None
) -> Recalibration:
    """Conformal repair of credible intervals, from pairs that were not used for training.

    For each level and parameter, the central interval is stretched about the median by the
    smallest factor with which it covers ceil((N + 1) level) of the N truths: split conformal
    prediction with a quantile score (Romano et al. 2019, arXiv 1905.03222), so that the interval
    of a new measurement holds its truth with at least that probability, whatever the posterior.
    On average over measurements: it says nothing of each single one. The table has the levels
    5 %, 10 %, ... and those of `LEVELS`, as high as N allows.

    Few pictures have many pixels: with ``shared`` all D parameters get one factor a level, and their
    intervals keep the proportions that the posterior gives them. It is the smallest that covers
    ceil((N D + 1) level) of the N D pixels. By how much the share inside may miss the level in new
    pictures is told by the differences between those it was learned from. (To be sure of at least
    the level on average would cost up to 1 / (N + 1): Angelopoulos et al. 2024, arXiv 2208.02814.)

    The fewer the pairs, the more the repaired coverage misses its level by chance
    (`Recalibration.standard_error`): 8 % at the level of 50 % for 40 pairs, which makes a posterior
    worse that was nearly right. Where it is above 2.5 % (below 400 pairs) there is a warning.

    Args:
        shared: by default of images (N, C, H, W).

    Raises:
        InputError: fewer than 20 pairs, or than 2 pictures.

    Example:
        >>> from innverse.metrics.calibration import recalibrate
        >>> images, narrow = torch.randn(40, 1, 8, 8), 0.5 * torch.randn(99, 40, 1, 8, 8)
        >>> repair = recalibrate(narrow, images)
        >>> 1.9 < float(repair.factors_at([0.9])) < 2.3
        True
    """
    shared = tensor(theta, "theta").dim() == 4 if shared is None else shared
    theta, samples = truth_and_draws(source, theta, x, draws, generator)
    n = len(theta)
    if n < (2 if shared else 20):
        raise InputError(f"{n} pairs are too few to recalibrate: give at least 20, better 1000")
    table = sorted({*(0.05 * k for k in range(1, 20)), *LEVELS, 0.975, 0.99})
    # the k-th smallest of n scores, k = ceil((n + 1) level), must exist, and draws must reach
    scored = theta.numel() if shared else n
    top = min(scored / (scored + 1), 1 - 2 / (len(samples) + 1))
    levels = checked_levels([level for level in table if level <= top])
    low, high = central_intervals(samples, levels)
    middle = samples.median(0).values
    up = (theta - middle) / (high - middle).clamp_min(1e-300)
    down = (middle - theta) / (middle - low).clamp_min(1e-300)
    scores = torch.where(theta >= middle, up, down)  # (levels, N, D), the factor each truth needs
    if shared:
        repair = shared_factors(scores, levels)
    else:
        k = _rank(n, levels).clamp(1, n) - 1
        repair = Recalibration(levels, scores.sort(1).values[torch.arange(len(levels)), k], n)
    chance = 100 * float(repair.standard_error([0.5]))
    if chance > 2.5:
        warn(
            f"a repair learned from {n} pairs is uncertain: its intervals of 50 % may hold "
            f"{50 - chance:.0f} to {50 + chance:.0f} % of the truths, and it can make a good "
            f"posterior worse; give at least {ENOUGH} pairs",
        )
    return repair


def shared_factors(scores: Tensor, levels) -> Recalibration:
    """One factor a level from the factors that each truth needs, scores (G, N, D): of N pictures
    with D pixels, or with D quantiles of their pixels."""
    levels = checked_levels(levels)
    _, n, d = scores.shape
    k = _rank(n * d, levels).clamp(1, n * d) - 1
    factors = scores.flatten(1).sort(1).values[torch.arange(len(levels)), k].unsqueeze(1)
    each = (scores <= factors.unsqueeze(1)).double().mean(2)  # (G, N), of each picture
    return Recalibration(levels, factors, n, each.std(1) / math.sqrt(n))


def _rank(n: int, levels: Tensor) -> Tensor:
    # the tiny subtraction keeps (n + 1) * level from being rounded over a whole number
    return ((n + 1) * levels - 1e-9).ceil().long()
