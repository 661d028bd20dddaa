"""Importance weights: from approximate draws to exact expectations, and how far to trust them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, ShapeError


@dataclass(frozen=True)
class Importance:
    """Draws of q with weights that make them draws of p.

    Attributes:
        weights: (n,), normalised, Pareto-smoothed.
        ess: effective sample size, 1 / sum w^2.
        pareto_k: shape of the tail of the weights; below 0.7 they can be trusted.
        log_evidence: log of the mean unsmoothed weight: log p(x) where the target was the joint
            density p(theta, x).
    """

    weights: Tensor
    ess: float
    pareto_k: float
    log_evidence: float

    @property
    def trustworthy(self) -> bool:
        """Whether pareto_k is below min(0.7, 1 - 1 / log10 n) (Vehtari et al. 2024, eq. 13)."""
        n = len(self.weights)
        return self.pareto_k < min(0.7, 1 - 1 / math.log10(max(n, 11)))

    def resample(self, draws: Tensor, n: int, generator: torch.Generator | None = None) -> Tensor:
        """``n`` of ``draws`` (rows), with replacement, by their weights."""
        if len(draws) != len(self.weights):
            raise ShapeError(f"{len(draws)} draws do not fit {len(self.weights)} weights")
        rows = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return draws[rows.to(draws.device)]


def importance_weights(log_target, log_proposal) -> Importance:
    """Pareto-smoothed weights p / q of draws of q (Vehtari et al. 2024, arXiv 1507.02646).

    Args:
        log_target: log p at the draws (n,), up to a constant; -inf is fine.
        log_proposal: log q at the draws (n,).

    Raises:
        ShapeError: not two vectors of one length.
        InputError: NaN, or no draw where the target is positive.
    """
    target, proposal = (torch.as_tensor(t).double() for t in (log_target, log_proposal))
    if target.dim() != 1 or target.shape != proposal.shape:
        raise ShapeError(
            "give log-densities of the same draws, two vectors, got "
            f"{tuple(target.shape)} and {tuple(proposal.shape)}"
        )
    log_w = target - proposal
    if bool(log_w.isnan().any()) or bool((log_w == math.inf).any()):
        raise InputError("importance weights: log-densities of draws must not be NaN or +inf")
    if not bool(log_w.isfinite().any()):
        raise InputError("importance weights: no draw lies where the target is positive")
    log_evidence = float(log_w.logsumexp(0)) - math.log(len(log_w))
    smooth, k = _smooth_tail(log_w - log_w.max())
    weights = (smooth - smooth.logsumexp(0)).exp()
    return Importance(weights, float(1 / weights.square().sum()), k, log_evidence)


def _smooth_tail(log_w: Tensor) -> tuple[Tensor, float]:
    """The largest weights replaced by quantiles of a generalised Pareto fit, and its shape."""
    n = len(log_w)
    m = min(n // 5, math.ceil(3 * math.sqrt(n)))
    order = log_w.argsort()
    tail = order[n - m :]
    if m < 5 or not bool(log_w[order[n - m - 1]].isfinite()):
        return log_w, math.inf  # too few draws to say anything
    cut = log_w[order[n - m - 1]].exp()
    excess = log_w[tail].exp() - cut
    if float(excess[-1]) <= 1e-4 * float(cut):
        return log_w, -math.inf  # the tail is flat: all weights are equal
    k, sigma = fit_generalized_pareto(excess)
    p = (torch.arange(m, dtype=log_w.dtype, device=log_w.device) + 0.5) / m
    # the quantile function of the fit; its limit for k -> 0 is the exponential's
    quantile = -(-p).log1p() if abs(k) < 1e-9 else torch.expm1(-k * (-p).log1p()) / k
    smooth = log_w.clone()
    smooth[tail] = (cut + sigma * quantile).log().clamp_max(0.0)  # never above the largest
    return smooth, k


def fit_generalized_pareto(excess: Tensor) -> tuple[float, float]:
    """(shape k, scale sigma) of sorted excesses (m,) > 0; Zhang & Stephens 2009, with the weak
    prior of Vehtari et al. (shape pulled to 0.5 by ten observations)."""
    x = excess.clamp_min(1e-300)
    m = len(x)
    grid = 30 + int(math.sqrt(m))
    j = torch.arange(1, grid + 1, dtype=x.dtype, device=x.device)
    quartile = x[int(m / 4 + 0.5) - 1]
    theta = 1 / x[-1] + (1 - (grid / (j - 0.5)).sqrt()) / (3 * quartile)
    k = (-theta.unsqueeze(1) * x).log1p().mean(1)
    profile = m * ((-theta / k).log() - k - 1)
    weight = (profile - profile.logsumexp(0)).exp()
    best = (theta * weight).sum()
    k = float((-best * x).log1p().mean())
    sigma = -k / float(best)
    return (m * k + 10 * 0.5) / (m + 10), sigma
