"""The metric of few data, by a matrix that is as large as they are.

M = A^T A / s^2 + C^-1 / sigma0^2, with the curvature of the prior by frequency, C^-1 = F^T j F (see
`prior_spectrum`): where most directions were not measured, how the prior varies along them is what
is left of stiffness. j = 1 for a density that has no such spectrum.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...physics import LinearPhysics, Whitened
from ..levels import level_of
from .metric import Metric, beside, put_inside
from .prior_spectrum import PriorSpectrum, Spread
from .target import Target

_MOST_DATA = 4096  # values, beyond which a matrix of their products takes more than seconds


class FewData(Metric):
    """M^-1 p = sigma0^2 (C p - C A^T W K^-1 W A C p), K = W A C A^T W + (s / sigma0)^2 I (Woodbury).

    K is factorised in float64, once for all chains with the same weights W of the data and the same
    s / sigma0.

    Args:
        gram: A C A^T (m, m), of all chains, without their weights.
        spread: C.
    """

    def __init__(self, target: Target, scale: Tensor, gram: Tensor, spread: Spread | None = None):
        super().__init__(target, scale)
        self.spread = spread or Spread()
        kinds, self._which = _kinds(target, self._rho)
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        self._factors = [
            torch.linalg.cholesky(w[:, None] * gram * w + rho * eye)
            for rho, w in zip(kinds[:, 0], kinds[:, 1:], strict=True)
        ]

    def momenta(self, of_data: Tensor, of_image: Tensor) -> Tensor:
        return super().momenta(of_data, self.spread.to_the(-0.5, of_image))

    def velocity(self, p: Tensor) -> Tensor:
        physics, v = self.target.physics, self.spread(p)
        seen = physics.A(self.target.crop(v))
        rows = seen.flatten(1).double()
        solved = torch.empty_like(rows)
        for i, factor in enumerate(self._factors):
            mine = self._which == i
            solved[mine] = torch.cholesky_solve(rows[mine].T, factor).T
        back = physics.A_adjoint(solved.to(seen).view_as(seen))
        v = v - self.spread(put_inside(torch.zeros_like(p), back))
        return v * beside(self.scale, p).square()


def few_data(
    target: Target, like: Tensor, spectrum: PriorSpectrum | None = None
) -> Callable[[Target, Tensor], FewData] | None:
    """What makes the metric of a target and a scale, if there are few data in the operator of
    ``target`` and it has one such matrix for all.

    Args:
        like: images (N, C, H, W) of the size that is sampled.
    """
    physics, m = target.physics, target.y[0].numel()
    plain = physics.physics if isinstance(physics, Whitened) else physics
    if m > _MOST_DATA or not _serves_all(plain):
        return None
    # weights are compared only where data are few; each kind of them takes a matrix of its own
    if len(_kinds(target, target.noise)[0]) * m**2 > _MOST_DATA**2:
        return None
    alone = plain.select(torch.zeros(1, dtype=torch.long, device=like.device))
    known: dict[float | None, tuple[Tensor, Spread]] = {}

    def make(target: Target, scale: Tensor) -> FewData:
        level = level_of(target.density)
        if level not in known:
            known.clear()  # levels fall and do not come back, and matrices are large
            spread = Spread.at(target.density, spectrum)

            def between(back: Tensor) -> Tensor:
                whole = put_inside(back.new_zeros(len(back), *like.shape[1:]), back)
                return target.crop(spread(whole))

            known[level] = gram_matrix(alone, target.y[:1], between), spread
        return FewData(target, scale, *known[level])

    return make


def _kinds(target: Target, rho: Tensor) -> tuple[Tensor, Tensor]:
    """The different rows (rho, weights) (K, 1 + m or 2) of the chains, and which each has (N,)."""
    physics = target.physics
    weight = physics.weight if isinstance(physics, Whitened) else rho.new_ones(1, 1)
    rows = torch.cat((rho[:, None], weight.flatten(1).to(rho).expand(len(rho), -1)), 1)
    return rows.double().unique(dim=0, return_inverse=True)


def _serves_all(physics: LinearPhysics) -> bool:
    """Whether all items have the same operator, and the same weights."""
    parts = [m for m in physics.modules() if isinstance(m, LinearPhysics)]
    weights = [m.weight for m in parts if isinstance(m, Whitened)]
    return all(m.items == 1 for m in parts) and all(bool((w == w[:1]).all()) for w in weights)


@torch.no_grad()
def gram_matrix(
    physics: LinearPhysics,
    y: Tensor,
    between: Callable[[Tensor], Tensor] = lambda x: x,
    at_once: int = 64,
) -> Tensor:
    """A C A^T (m, m) in float64, of an operator that serves any batch.

    Args:
        y: one measurement.
        between: the symmetric C, of images; the identity if it is left out.
    """
    unit = torch.eye(y.numel(), dtype=y.dtype, device=y.device)
    rows = [
        physics.A(between(physics.A_adjoint(part.view(-1, *y.shape[1:])))).flatten(1)
        for part in unit.split(at_once)
    ]
    gram = torch.cat(rows).double()
    return 0.5 * (gram + gram.T)
