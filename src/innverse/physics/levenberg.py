"""Least squares for operators that are not linear, each item with its own damping."""

from __future__ import annotations

import torch
from torch import Tensor

from ..shapes import wide
from .base import LinearPhysics
from .cg import conjugate_gradient, dot

_DAMPED = 1e-2  # of the largest curvature, at first
_INNER = 30  # steps of conjugate gradients for one step


@torch.no_grad()
def levenberg_marquardt(
    physics: LinearPhysics, y: Tensor, x0: Tensor, rho: Tensor | float = 0.0, steps: int = 30
) -> Tensor:
    """A local minimum of ||A x - y||^2 + rho ||x - x0||^2, from x0 (Marquardt 1963).

    Args:
        physics: A, which has a derivative (`at`).
        y: measurements (B, ...).
        x0: images (B, C, H, W).
        rho: >= 0, one number or one per item (B,).
        steps: at most; an item stops once a step brings less than 1e-4 of what is left.

    Example:
        >>> from innverse.physics.levenberg import levenberg_marquardt
        >>> square = Nonlinear(lambda x: x**2, (1, 4, 4))
        >>> x = torch.rand(2, 1, 4, 4) + 0.5
        >>> found = levenberg_marquardt(square, square.A(x), torch.full_like(x, 0.5))
        >>> bool((found - x).abs().max() < 1e-3)
        True
    """
    rho = wide(torch.as_tensor(rho).to(x0).expand(len(x0)), x0)

    def value(x: Tensor) -> tuple[Tensor, Tensor]:
        r = y - physics.A(x)
        return r, wide(dot(r, r).flatten(), x) + rho * dot(x - x0, x - x0)

    x = x0.clone()
    r, best = value(x)
    damping = _DAMPED * wide(physics.at(x).norms_squared(x, 6).to(x).expand(len(x)), x)
    running = torch.ones_like(best, dtype=torch.bool)
    for _ in range(steps):
        j = physics.at(x)
        stiff = rho + damping
        rhs = j.A_adjoint(r) + rho * (x0 - x)
        step = conjugate_gradient(
            lambda v, j=j, stiff=stiff: j.A_normal(v) + stiff * v, rhs, tol=1e-3, max_iter=_INNER
        )
        there = x + torch.where(running, step, 0)
        r_there, new = value(there)
        better = running & (new < best)
        damping = torch.where(better, damping / 4, 4 * damping)
        running = running & ~(better & (best - new < 1e-4 * best))
        x = torch.where(better, there, x)
        r = torch.where(wide(better.flatten(), r), r_there, r)
        best = torch.where(better, new, best)
        if not bool(running.any()):
            break
    return x
