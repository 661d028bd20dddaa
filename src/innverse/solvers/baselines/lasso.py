"""The Lasso: min_c 1/2 ||A W^T c - y||^2 + lam ||c||_1, sparsity in an orthonormal basis W.

Tibshirani (JRSS B 58, 1996), by FISTA (Beck & Teboulle, SIAM J. Imaging 2, 2009) with restarts
where the momentum points uphill (O'Donoghue & Candes, Found. Comput. Math. 15, 2015).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import ShapeError, UsageError
from ...physics import as_physics, whiten
from .bases import Basis
from .iterate import Iterate

_MARGIN = 1.05  # power iteration finds the norm of A from below
_CHECK_EVERY = 10


def lasso(
    y: Tensor, physics, lam: float | Tensor, basis: str = "dct", iters: int = 500, **options
) -> Tensor:
    """The images of `iterate_lasso` alone, (B, C, H, W), not clipped."""
    return iterate_lasso(y, physics, lam, basis, iters, **options).x


@torch.no_grad()
def iterate_lasso(
    y: Tensor,
    physics,
    lam: float | Tensor,
    basis: str = "dct",
    iters: int = 500,
    *,
    tol: float = 1e-5,
    x0: Tensor | None = None,
    callback: Callable[[int, Tensor], bool | None] | None = None,
) -> Iterate:
    """Reconstruct images from y by sparsity of their coefficients.

    Items are independent and each stops by itself.

    Args:
        y: measurement, batch of B.
        physics: a `LinearPhysics`, or anything that `as_physics` accepts; if its noise differs
            from value to value, the misfit is weighted by it (`innverse.physics.whiten`).
        lam: weight of the l1 norm, >= 0, one number or (B,).
        basis: ``"dct"``, ``"haar"`` or ``"db2"``, see `Basis`.
        iters: most iterations.
        tol: an item stops when ten iterations change it by less than this, relatively.
        x0: first guess; defaults to zero.
        callback: sees (iteration, x) at every check; returning True stops.

    Returns:
        The images (B, C, H, W), not clipped, with the iterations of each item.

    Raises:
        UsageError: a negative weight or an unknown basis. ShapeError: weights that do not fit.
    """
    transform = Basis(basis)
    y, physics = whiten(y, as_physics(physics))
    lam = torch.as_tensor(lam, dtype=y.dtype, device=y.device).reshape(-1)
    if not bool((lam >= 0).all()):
        raise UsageError(f"the weight lam must be >= 0, got {lam.tolist()}")
    if lam.numel() not in (1, len(y)):
        raise ShapeError(f"{lam.numel()} weights for a batch of {len(y)} items")
    lam = lam.expand(len(y))

    back = physics.A_adjoint(y)
    if back.ndim != 4:
        raise ShapeError(f"the Lasso needs images (B, C, H, W), got {tuple(back.shape)}")
    step = 1 / (_MARGIN * physics.norms_squared(back)).clamp_min(1e-30).to(back).expand(len(y))
    c = torch.zeros_like(back) if x0 is None else transform.analyse(x0)
    out = transform.synthesise(c)
    ahead, momentum, last = c, y.new_ones(len(y)), c
    items = torch.arange(len(y), device=y.device)
    iterations, settled = torch.zeros(len(y), dtype=torch.long), torch.zeros(len(y)).bool()
    for k in range(1, iters + 1):
        residual = physics.A(transform.synthesise(ahead)) - y
        gradient = transform.analyse(physics.A_adjoint(residual))
        new = _shrink(ahead - _wide(step, c) * gradient, _wide(step * lam, c))
        uphill = ((ahead - new) * (new - c)).flatten(1).sum(1) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        after = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        ahead = new + _wide((momentum - 1) / after, new) * (new - c)
        c, momentum = new, after
        if k % _CHECK_EVERY and k != iters:
            continue
        out[items] = transform.synthesise(c)
        iterations[items.cpu()] = k
        change = (c - last).flatten(1).norm(dim=1) / c.flatten(1).norm(dim=1).clamp_min(1e-12)
        last = c
        if callback is not None and callback(k, out):
            break
        settled[items.cpu()] = (change <= tol).cpu()
        keep = (change > tol).nonzero().flatten()
        if keep.numel() == 0:
            break
        if keep.numel() < len(items):
            items, physics, y = items[keep], physics.select(keep), y[keep]
            lam, step = lam[keep], step[keep]
            c, ahead, momentum, last = c[keep], ahead[keep], momentum[keep], last[keep]
    return Iterate(out, iterations, settled)


def _shrink(c: Tensor, by: Tensor) -> Tensor:
    return c.sign() * (c.abs() - by).clamp_min(0)


def _wide(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (like.ndim - 1))
