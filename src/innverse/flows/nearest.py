"""The point of a manifold that is nearest to another point, by its coordinates."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..errors import UsageError
from ..models.registry import fits
from ..optim import lbfgs


def nearest(point: Callable[[Tensor], Tensor], x: Tensor, u: Tensor, steps: int) -> Tensor:
    """Coordinates (B, k) of the point(u) that minimises ||x - point(u)||, after so many ``steps`` of
    L-BFGS from u; u itself, with its gradient, after none."""
    if not (fits(steps, int) and steps >= 0):
        raise UsageError(f"steps={steps!r}: a whole number, 0 or more")
    if not steps:
        return u
    target = x.detach()

    def square(u: Tensor, items: Tensor) -> Tensor:
        return (target[items] - point(u)).flatten(1).square().sum(1)

    return lbfgs.minimize(square, u.detach(), max_iter=steps, tol_change=1e-14).z
