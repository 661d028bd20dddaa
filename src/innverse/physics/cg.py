"""Batched conjugate gradients: every item has its own step and its own stop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import NotConvergedWarning, warn
from ..shapes import wide

MAX_ITER = 2000


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each item, shaped (B, 1, ..., 1); of complex ones its real part."""
    like = a
    if a.is_complex():
        a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    return wide((a * b).flatten(1).sum(1), like)


def default_tol(x: Tensor) -> float:
    return 1e-11 if x.dtype in (torch.float64, torch.complex128) else 1e-6


@torch.no_grad()
def conjugate_gradient(
    matvec: Callable[[Tensor], Tensor],
    rhs: Tensor,
    *,
    x0: Tensor | None = None,
    precondition: Callable[[Tensor], Tensor] | None = None,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
) -> Tensor:
    """Solve M x = rhs for a symmetric positive definite M that treats items separately.

    An item stops once ||rhs - M x|| <= tol * ||rhs||; it is frozen from then on, so that its
    result does not depend on the other items of the batch. `NotConvergedWarning` where one does
    not get there, after ``max_iter`` iterations or because M is not positive definite.
    """
    tol = default_tol(rhs) if tol is None else tol
    x = torch.zeros_like(rhs) if x0 is None else x0.clone()
    r = rhs.clone() if x0 is None else rhs - matvec(x)
    z = r if precondition is None else precondition(r)
    p = z.clone()
    rz = dot(r, z)
    limit = tol**2 * dot(rhs, rhs)
    for _ in range(max_iter):
        running = dot(r, r) > limit
        if not bool(running.any()):
            break
        mp = matvec(p)
        curvature = dot(p, mp)
        running = running & (curvature > 0)
        alpha = torch.where(running, rz / curvature, torch.zeros_like(rz))
        x = x + alpha * p
        r = torch.where(running, r - alpha * mp, r)
        z = r if precondition is None else precondition(r)
        rz_new = dot(r, z)
        p = torch.where(running, z + rz_new / rz * p, p)
        rz = torch.where(running, rz_new, rz)
        if not bool(running.any()):
            break
    return _judged(x, "conjugate gradients", "a larger rho", dot(r, r), limit, tol, max_iter)


@torch.no_grad()
def least_squares(
    forward: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    y: Tensor,
    *,
    tol: float | None = None,
    max_iter: int = MAX_ITER,
) -> Tensor:
    """CGLS from zero: the least-squares solution of A x = y that has the smallest norm.

    An item stops once ||A^T r|| <= tol * ||A^T y|| or <= tol * ||A|| ||r||, where r = y - A x; less
    cannot be told from rounding. `NotConvergedWarning` where an item does not get there: what a badly
    conditioned A hardly measures takes many iterations, and noise is magnified on the way.
    """
    tol = default_tol(y) if tol is None else tol
    r = y.clone()
    s = adjoint(r)
    x, p = torch.zeros_like(s), s.clone()
    ss = dot(s, s)
    # ||r||^2, ||p||^2 and a bound of ||A||^2 from below, all without a pass over memory
    rr, pp, norm = dot(r, r).reshape(ss.shape), ss, torch.zeros_like(ss)
    start = limit = tol**2 * ss
    for _ in range(max_iter):
        running = ss > limit
        if not bool(running.any()):
            break
        q = forward(p)
        # measurements and images may have different ranks: reshape the per-item scalars
        qq = dot(q, q).reshape(ss.shape)
        running = running & (qq > 0)
        alpha = torch.where(running, ss / qq, torch.zeros_like(ss))
        x = x + alpha * p
        r = r - wide(alpha, r) * q
        s_new = adjoint(r)
        ss_new = dot(s_new, s_new)
        beta = ss_new / ss
        p = torch.where(running, s_new + beta * p, p)
        norm = torch.where(running, torch.maximum(norm, qq / pp), norm)
        rr = torch.where(running, (rr - alpha * ss).clamp_min(0), rr)
        pp = torch.where(running, ss_new + beta.square() * pp, pp)
        ss = torch.where(running, ss_new, ss)
        limit = torch.maximum(start, tol**2 * norm * rr)
        if not bool(running.any()):
            break
    advice = "a solver that knows the noise"
    return _judged(x, "least squares", advice, ss, limit, tol, max_iter)


def _judged(x, what: str, advice: str, squares: Tensor, limit: Tensor, tol, max_iter) -> Tensor:
    """x, with a warning where an item stopped above its limit, and NaN where it began with NaN."""
    left = ~(squares <= limit)
    if not bool(left.any()):
        return x
    lost = ~(squares + limit).isfinite()
    if bool((left & ~lost).any()):
        # one digit: a warning whose text is new each time would be shown each time
        ratio = tol * float((squares / limit)[left & ~lost].max().sqrt())
        warn(
            f"{what} stopped at a relative residual of {ratio:.0e}, tolerance {tol:.0e}, for "
            f"{int((left & ~lost).sum())} of {left.numel()} items (max_iter={max_iter}): the operator "
            f"is badly conditioned; raise max_iter or take {advice}",
            NotConvergedWarning,
        )
    return x.masked_fill(lost, torch.nan)
