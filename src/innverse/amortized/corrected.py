"""A posterior made exact by a known likelihood: importance weights of its own draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShapeError, UsageError, warn
from ..metrics.calibration import reweight
from ..metrics.importance import Importance
from ..showing.shown import Shown
from .checks import as_floats, as_shape


@dataclass(frozen=True)
class Correction:
    """Weighted draws of one posterior: ``theta`` (n, D) with ``importance`` (weights, ESS, Pareto k,
    evidence).

    Example:
        >>> from innverse.data import simulators
        >>> task = simulators.get("two_moons")
        >>> posterior = fit(*task.pairs(200), prior=task.prior, max_epochs=1, progress=False)
        >>> found = CorrectedPosterior(posterior, task.log_joint).correct([0.0, 0.0], 500)
        >>> found.theta.shape, found.mean.shape, 0 < found.efficiency <= 1
        (torch.Size([500, 2]), torch.Size([2]), True)
    """

    theta: Tensor
    importance: Importance

    @property
    def mean(self) -> Tensor:
        """The posterior mean (D,)."""
        return self.importance.weights.to(self.theta.dtype) @ self.theta

    @property
    def efficiency(self) -> float:
        """ESS per draw, 0..1: 1 where the network's posterior was exact."""
        return self.importance.ess / len(self.theta)


class CorrectedPosterior(Shown):
    """Draws of ``posterior``, weighted by p(theta, x) / q(theta | x) and resampled.

    Exact as the number of proposals grows, wherever q covers the posterior, whatever its errors.
    Offers what `innverse.metrics.calibration` takes. Where the weights cannot be trusted (Pareto k
    too large) it warns: the network misses part of the posterior there.

    Args:
        posterior: with ``sample((n,), x=)`` and ``log_prob(theta, x=)``.
        log_joint: log p(theta) + log p(x | theta), (n, D), x -> (n,); of `innverse`'s simulators it
            is ``task.log_joint``.
        oversample: proposals for each draw that is asked for; at least ``proposals`` in all.

    Example:
        >>> from innverse.data import simulators
        >>> task = simulators.get("gaussian_linear_uniform", dim=1)
        >>> theta, x = task.pairs(500)
        >>> rough = fit(theta, x, prior=task.prior, max_epochs=2, progress=False)
        >>> exact = CorrectedPosterior(rough, task.log_joint, proposals=1000)
        >>> exact.sample((5,), x=[0.2]).shape
        torch.Size([5, 1])
    """

    def __init__(self, posterior, log_joint: Callable, *, oversample: int = 10, proposals=10_000):
        if not callable(log_joint):
            raise UsageError(
                "log_joint: give a function (theta, x) -> log p(theta) + log p(x|theta)"
            )
        self.posterior, self.log_joint = posterior, log_joint
        self.oversample, self.proposals = int(oversample), int(proposals)

    def _card(self):
        from ..showing.posterior import corrected

        return corrected(self)

    def correct(self, x, n: int | None = None, *, generator=None) -> Correction:
        """``n`` weighted draws for one observation x (*x_shape)."""
        x = as_floats(x, "x")
        weighted = reweight(
            self.posterior, x, self.log_joint, draws=n or self.proposals, generator=generator
        )
        return Correction(*weighted)

    def sample(
        self, sample_shape=(), x=None, *, generator=None, show_progress_bars: bool = False
    ) -> Tensor:
        """Draws (*sample_shape, D) for one observation; some are equal where the ESS is small."""
        shape = as_shape(sample_shape)
        n = shape.numel()
        made = self.correct(x, max(self.proposals, self.oversample * n), generator=generator)
        if not made.importance.trustworthy:
            warn(
                f"importance weights cannot be trusted (Pareto k {made.importance.pareto_k:.2f}, "
                f"ESS {made.importance.ess:.0f} of {len(made.theta)}): the network misses part of "
                "this posterior; train longer or on more simulations",
            )
        draws = made.importance.resample(made.theta, n, generator) if n else made.theta[:0]
        return draws.reshape(*shape, draws.shape[-1])

    def sample_batched(
        self, sample_shape, x, *, generator=None, show_progress_bars: bool = False
    ) -> Tensor:
        """Draws (*sample_shape, B, D) for B observations x (B, *x_shape)."""
        each = [self.sample(sample_shape, row, generator=generator) for row in as_floats(x, "x")]
        return torch.stack(each, -2)

    def log_prob(self, theta, x=None, *, generator=None) -> Tensor:
        """log p(theta | x) (B,): the exact joint density, normalised by the estimated evidence."""
        theta, x = as_floats(theta, "theta"), as_floats(x, "x")
        if theta.dim() != 2:
            raise ShapeError(f"theta must be (B, D), got {tuple(theta.shape)}")
        evidence = self.correct(x, generator=generator).importance.log_evidence
        value = torch.as_tensor(self.log_joint(theta, x))
        return torch.where(value.isnan(), -math.inf, value - evidence)
