"""From parameters with bounds to coordinates on the whole line with mean 0 and variance 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import InputError, ShapeError

_EDGE = 1e-9  # fraction of the range that a draw on the very bound is moved inwards
_LOG_ROOT_2PI = math.log(2 * math.pi) / 2
_FLOOR = 1e-4  # the same with one bound only, as a fraction of the median distance to it


class ParameterTransform(nn.Module):
    """u = (g(theta) - loc) / scale, coordinate by coordinate.

    g is the probit (the normal quantile) of the fraction of the range between two finite bounds, the
    logarithm of the distance to one finite bound, and the identity without bounds, so no density can
    leak out. Under the probit a uniform prior becomes the flow's own base density, while a
    logit would leave it tails longer than those of a normal.
    ``loc`` and ``scale`` are learned from the training draws (`learn`). Computed in float64.

    Args:
        low, high: bounds (D,), -inf and inf where there are none.
    """

    def __init__(self, low: Tensor, high: Tensor):
        super().__init__()
        low, high = low.double(), high.double()
        if low.shape != high.shape or low.dim() != 1:
            raise ShapeError(
                f"bounds need two vectors (D,), got {tuple(low.shape)} and {tuple(high.shape)}"
            )
        if bool((~(low < high)).any()):
            i = int((~(low < high)).nonzero()[0])
            raise InputError(
                f"bounds of parameter {i}: the lower bound {float(low[i]):g} must lie below the "
                f"upper bound {float(high[i]):g}"
            )
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("loc", torch.zeros_like(low))
        self.register_buffer("scale", torch.ones_like(low))
        self.register_buffer("floor", torch.full_like(low, 1e-300))

    def learn(self, theta: Tensor) -> None:
        """Set ``loc`` and ``scale`` to the mean and standard deviation of g over theta (N, D)."""
        self.floor.copy_(_FLOOR * self._distance(theta.double()).abs().median(0).values)
        self.floor.clamp_(min=1e-300)
        v = self._unbound(theta.double())
        self.loc.copy_(v.mean(0))
        self.scale.copy_(v.std(0).clamp_min(1e-300))

    def forward(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """theta (B, D) -> u (B, D) float32, log|det du/dtheta| (B,) float32.

        Outside the bounds the log-determinant is -inf.
        """
        v = self._unbound(theta.double())
        slope = torch.where(self.inside(theta), self._log_slope(v), -math.inf)
        return ((v - self.loc) / self.scale).float(), slope.sum(1).float()

    def log_det_at(self, u: Tensor) -> Tensor:
        """log|det du/dtheta| (B,) at the image u (B, D) of theta."""
        return self._log_slope(u.double() * self.scale + self.loc).sum(1).float()

    def inverse(self, u: Tensor) -> Tensor:
        """u (B, D) -> theta (B, D) float32, strictly between the bounds up to rounding."""
        v = u.double() * self.scale + self.loc
        two, below, above = self._kinds()
        span = torch.where(two, self.high - self.low, 1.0)
        theta = torch.where(two, self._origin() + span * torch.special.ndtr(v), v)
        theta = torch.where(below, self._origin() + v.exp(), theta)
        return torch.where(above, self._origin() - v.exp(), theta).float()

    def inside(self, theta: Tensor) -> Tensor:
        """Which entries of theta (N, D) lie within their bounds (ends included)."""
        theta = theta.double()
        return (theta >= self.low) & (theta <= self.high)

    def _unbound(self, theta: Tensor) -> Tensor:
        """g(theta); what lies on or outside a bound is moved just inside."""
        two, below, above = self._kinds()
        span = torch.where(two, self.high - self.low, 1.0)
        distance = self._distance(theta)
        p = (distance / span).clamp(_EDGE, 1 - _EDGE)
        half = torch.maximum(distance, self.floor).log()
        return torch.where(two, torch.special.ndtri(p), torch.where(below | above, half, theta))

    def _log_slope(self, v: Tensor) -> Tensor:
        """log |g'(theta)| / scale, elementwise, at v = g(theta)."""
        two, below, above = self._kinds()
        span = torch.where(two, self.high - self.low, 1.0)
        slope = torch.where(two, v.square() / 2 + _LOG_ROOT_2PI - span.log(), 0.0)
        return torch.where(below | above, -v, slope) - self.scale.log()

    def _distance(self, theta: Tensor) -> Tensor:
        """From the finite bound inwards; theta itself where there is none."""
        _, _, above = self._kinds()
        return torch.where(above, self._origin() - theta, theta - self._origin())

    def _kinds(self) -> tuple[Tensor, Tensor, Tensor]:
        lower, upper = self.low.isfinite(), self.high.isfinite()
        return lower & upper, lower & ~upper, ~lower & upper

    def _origin(self) -> Tensor:
        """The finite bound to measure from, 0 where there is none."""
        lower, upper = self.low.isfinite(), self.high.isfinite()
        return torch.where(lower, self.low, torch.where(upper, self.high, 0.0))


def bounds_of(prior, n: int) -> tuple[Tensor, Tensor]:
    """(low, high), each (n,), of a prior: its ``bounds`` (a pair), or its ``support`` if it is a
    `torch.distributions` object; infinite where nothing is known.
    """
    bounds = getattr(prior, "bounds", None)
    if bounds is None:
        bounds = _ends(getattr(prior, "support", None))
    if bounds is None:
        return torch.full((n,), -math.inf), torch.full((n,), math.inf)
    return as_bounds(bounds, n)


def as_bounds(bounds, n: int) -> tuple[Tensor, Tensor]:
    """(low, high), each (n,), from a pair of numbers or vectors; None in it means unbounded.

    Raises:
        InputError, ShapeError: not a pair, NaN, or of another length.
    """
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise InputError("bounds: give a pair (low, high) of numbers or vectors") from None
    ends = []
    for end, none in ((low, -math.inf), (high, math.inf)):
        try:
            if isinstance(end, list | tuple):
                end = [none if v is None else float(v) for v in end]
            end = torch.as_tensor(none if end is None else end, dtype=torch.float64)
        except (TypeError, ValueError):
            raise InputError("bounds: give numbers, or None where there is no bound") from None
        if end.dim() > 1 or (end.dim() == 1 and len(end) not in (1, n)):
            raise ShapeError(f"bounds of shape {tuple(end.shape)} do not fit {n} parameters")
        if bool(end.isnan().any()):
            raise InputError("bounds: NaN is no bound; give None where there is none")
        ends.append(end.expand(n).clone())
    return ends[0], ends[1]


def _ends(support):
    """The ends of a torch constraint: an interval, a half line, or independent copies of one."""
    if support is None:
        return None
    support = getattr(support, "base_constraint", support)
    low, high = getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
    return None if low is None and high is None else (low, high)
