"""The prior, cut down to where a posterior for one observation has its mass."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InnverseError
from .posterior import Posterior
from .simulate import draw_prior

_CHUNK = 16_384
_RARE = 1e-3  # acceptance below which draws come from the posterior instead of the prior
_CANDIDATES = 200  # of the posterior for each such draw
_HOPELESS = 1e-5  # acceptance below which rejection gives up, after a million draws


class TruncatedPrior:
    """p(theta) where log q_r(theta | x) exceeds its threshold for every round r, and 0 elsewhere.

    The threshold of a posterior is the ``epsilon``-quantile of its log-density at its own draws: all
    but that share of its mass is kept (Deistler et al. 2022, arXiv 2210.04815, section 4.1). Inside
    the region the density is that of the prior up to one constant, so a network trained on such
    draws needs no correction. Regions are nested: each round cuts what the last one left.

    Draws are prior draws that are not rejected; where fewer than one in a thousand would be kept and
    the prior has ``log_prob``, they are resampled draws of the newest posterior with weights p / q.

    Args:
        prior: an object with ``sample((n,))``.
        x: the observation.
        epsilon: probability cut off in each round.
    """

    def __init__(self, prior, x: Tensor, epsilon: float = 1e-4):
        self.prior, self.x, self.epsilon = prior, x, epsilon
        self.cuts: list[tuple[Posterior, float]] = []
        self.acceptance = 1.0

    @property
    def bounds(self):
        return getattr(self.prior, "bounds", None)

    @property
    def support(self):
        return getattr(self.prior, "support", None)

    def cut(self, posterior: Posterior, draws: int = 20_000) -> None:
        """Leave out what ``posterior`` finds improbable given the observation."""
        theta = posterior.sample((draws,), x=self.x)
        log_q = posterior.log_prob(theta, x=self.x)
        self.cuts.append((posterior, float(log_q.quantile(self.epsilon))))
        kept = self.inside(draw_prior(self.prior, draws))
        self.acceptance = float(kept.double().mean())

    def inside(self, theta: Tensor) -> Tensor:
        """Which of theta (n, D) are left, (n,) bool."""
        left = torch.ones(len(theta), dtype=torch.bool)
        for posterior, threshold in self.cuts:
            left[left.clone()] = posterior.log_prob(theta[left], x=self.x) > threshold
        return left

    def sample(self, sample_shape=()) -> Tensor:
        """Draws (*sample_shape, D).

        Raises:
            InnverseError: next to nothing of the prior is left, and it has no ``log_prob``.
        """
        shape = torch.Size(sample_shape)
        n = shape.numel()
        rare = self.acceptance < _RARE and hasattr(self.prior, "log_prob")
        theta = self._resampled(n) if rare else self._rejected(n)
        return theta.reshape(*shape, theta.shape[-1])

    def _rejected(self, n: int) -> Tensor:
        parts: list[Tensor] = []
        kept = tried = 0
        while kept < n:
            if tried > 1e6 and kept < _HOPELESS * tried:
                raise InnverseError(
                    f"only {kept} of {tried} prior draws lie where the last round's posterior has "
                    "its mass: give the prior a log_prob, fewer rounds, or a narrower prior"
                )
            theta = draw_prior(self.prior, _CHUNK)
            parts.append(theta[self.inside(theta)])
            kept, tried = kept + len(parts[-1]), tried + len(theta)
        return torch.cat(parts)[:n]

    def _resampled(self, n: int) -> Tensor:
        """For each draw the best-weighted of some candidates, chosen by weight p / q."""
        newest = self.cuts[-1][0]
        kept: list[Tensor] = []
        for rows in torch.arange(n).split(_CHUNK // _CANDIDATES):
            theta = newest.sample((len(rows) * _CANDIDATES,), x=self.x)
            log_w = self.prior.log_prob(theta) - newest.log_prob(theta, x=self.x)
            log_w = torch.where(self.inside(theta), log_w, -math.inf).view(len(rows), -1)
            # Gumbel noise makes the largest a draw by weight
            noise = -(-torch.rand_like(log_w).clamp_min(1e-30).log()).log()
            best = (log_w + noise).argmax(1)
            kept.append(theta.view(len(rows), _CANDIDATES, -1)[torch.arange(len(rows)), best])
        return torch.cat(kept)
