"""Do credible sets hold the truth as often as they say?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .draws import LEVELS, Quantity, checked_levels, drawn, truth_and_draws, values


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
    source,
    theta,
    x=None,
    *,
    levels: Sequence[float] = LEVELS,
    draws: int = 1000,
    of: Quantity | None = None,
    log_prob: Callable[[Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Coverage:
    """How often credible sets hold the truth: central intervals of each parameter, and regions of
    highest density where a density is known (Hermans et al. 2021).

    Args:
        of: judges the intervals of what it says of theta: of `patches` or `haar` coefficients of
            images instead of pixels.
        log_prob: of one draw of each posterior (N, ...) -> (N,) log-densities, up to a constant of
            each posterior; by default ``source.log_prob_batched``, if there is one.

    Example:
        >>> from innverse.metrics.calibration import coverage, haar
        >>> images, draws = torch.randn(200, 1, 8, 8), torch.randn(99, 200, 1, 8, 8)
        >>> density = lambda u: -u.square().sum((1, 2, 3)) / 2
        >>> found = coverage(draws, images, of=haar, log_prob=density)
        >>> found.covered.shape, bool((found.joint - found.levels).abs().max() < 0.1)
        (torch.Size([4, 64]), True)
    """
    wanted = checked_levels(levels)
    given = drawn(source, x, draws, generator)
    truth, samples = truth_and_draws(given, theta, x, draws, generator, of)
    low, high = central_intervals(samples, wanted)
    covered = ((truth >= low) & (truth <= high)).double().mean(1)
    joint = None
    if log_prob is not None:
        at_truth, *at = (values(log_prob, each)[:, 0] for each in (torch.as_tensor(theta), *given))
        joint = _highest(torch.stack(at), at_truth, wanted)
    elif hasattr(source, "log_prob_batched"):
        # in the type of the draws: float32 would lose digits of some, and others know nothing else
        plain, flat_draws = truth_and_draws(given, theta, x, draws, generator)
        at = source.log_prob_batched(flat_draws.to(given.dtype), x)
        at_truth = source.log_prob_batched(plain.to(given.dtype).unsqueeze(0), x)[0]
        joint = _highest(at, at_truth, wanted)
    return Coverage(wanted, covered, joint, len(truth))


def _highest(at_draws: Tensor, at_truth: Tensor, levels: Tensor) -> Tensor:
    """How often (levels,) the truth lies where the density is above that of 1 - level of the draws,
    from log-densities (L, N) and (N,)."""
    mass = (at_draws.double() > at_truth.double()).double().mean(0)
    return (mass <= levels.unsqueeze(1)).double().mean(1)


def central_intervals(samples: Tensor, levels) -> tuple[Tensor, Tensor]:
    """Ends (levels, N, D) of the central intervals of draws (L, N, D).

    The ends are the order statistics that make the interval of a level exactly that wide in
    probability, interpolated: q-quantiles at (L + 1) q - 1.
    """
    levels = checked_levels(levels)
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
    theta, samples = truth_and_draws(source, theta, x, draws, generator)
    # the smallest central interval that holds the truth has this level
    below = (samples < theta).double().sum(0) + 0.5 * (samples == theta).double().sum(0)
    needed = (2 * (below + 0.5) / (len(samples) + 1) - 1).abs()
    inside = (needed <= levels.view(-1, 1, 1)).double().mean(1)
    return float((inside - levels.unsqueeze(1)).abs().median(0).values.mean())
