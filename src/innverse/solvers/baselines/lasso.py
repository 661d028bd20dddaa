"""The Lasso: min_c 1/2 ||A W^T c - y||^2 + lam ||c||_1, sparsity in an orthonormal basis W.

Tibshirani (JRSS B 58, 1996), by FISTA (Beck & Teboulle, SIAM J. Imaging 2, 2009) with restarts
where the momentum points uphill (O'Donoghue & Candes, Found. Comput. Math. 15, 2015).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...physics import as_physics, whiten
from ...shapes import wide
from .bases import Basis
from .iterate import Iterate, begin, run

_MARGIN = 1.05  # power iteration finds the norm of A from below


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
    y, physics = whiten(y, as_physics(physics))
    lam, back = begin(y, physics, lam, "weight", above=False)
    transform = Basis(basis)
    c = torch.zeros_like(back) if x0 is None else transform.analyse(x0)
    return run(_State(physics, y, lam, c, transform), iters, tol, callback)


class _State:
    """Coefficients c, the point ahead of them where the gradient is taken, and the momentum."""

    def __init__(self, physics, y, lam, c, transform):
        self.physics, self.y, self.lam, self.transform = physics, y, lam, transform
        norms = physics.norms_squared(c).to(c).expand(len(y))
        self.step = 1 / (_MARGIN * norms).clamp_min(1e-30)
        self.point = self.ahead = c
        self.momentum = y.new_ones(len(y))

    def iterate(self):
        c, ahead, transform = self.point, self.ahead, self.transform
        residual = self.physics.A(transform.synthesise(ahead)) - self.y
        gradient = transform.analyse(self.physics.A_adjoint(residual))
        new = _shrink(ahead - wide(self.step, c) * gradient, wide(self.step * self.lam, c))
        uphill = ((ahead - new) * (new - c)).flatten(1).sum(1) > 0
        momentum = torch.where(uphill, 1.0, self.momentum)
        after = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        self.ahead = new + wide((momentum - 1) / after, new) * (new - c)
        self.point, self.momentum = new, after

    def images(self):
        return self.transform.synthesise(self.point)

    def keep(self, rows):
        self.physics, self.y, self.lam = self.physics.select(rows), self.y[rows], self.lam[rows]
        self.step, self.momentum = self.step[rows], self.momentum[rows]
        self.point, self.ahead = self.point[rows], self.ahead[rows]


def _shrink(c: Tensor, by: Tensor) -> Tensor:
    return c.sign() * (c.abs() - by).clamp_min(0)
