"""Toy densities in the plane whose exact log-density is known.

    toys.sample("two moons", 1000)      (1000, 2)
    toys.log_prob("two moons", x)       exact, normalised
    toys.entropy("two moons")           the least negative log-likelihood any model can reach

Every toy lies within [-5, 5]^2 but for a mass below 1e-9. Curves carry Gaussian noise across and
along, so their density is an integral over the curve: for circles a Bessel function, for arcs and
spirals a Gauss-Legendre quadrature that has converged to rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError, unknown

_BOX = 5.0
_CHUNK = 512  # points whose integrals are computed at once


def _by_quadrature(toy) -> float:
    """-sum p log p h^2 on a grid of h = s / 2: for smooth p the error falls like e^-(2 pi s/h)^2/2.

    The toys look the same from both sides of the origin, so half of the grid is enough.
    """
    h = toy.s / 2
    n = math.ceil(_BOX / h)
    rows = h * (torch.arange(n, dtype=torch.float64) + 0.5)
    columns = h * (torch.arange(2 * n, dtype=torch.float64) + 0.5 - n)
    log_p = toy.log_prob(torch.cartesian_prod(rows, columns))
    return float(-2 * h**2 * (log_p.exp() * log_p).nan_to_num(0.0).sum())


@dataclass(frozen=True)
class _Checkerboard:
    """Uniform on the 8 squares of side 2 with i + j even, of the 4 x 4 on [-4, 4]^2."""

    def sample(self, n: int, g: torch.Generator | None) -> Tensor:
        column = torch.randint(4, (n,), generator=g)
        row = 2 * torch.randint(2, (n,), generator=g) + column % 2
        corner = 2.0 * torch.stack((column, row), 1) - 4
        return corner + 2 * torch.rand(n, 2, generator=g, dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        cell = (x / 2).floor()
        inside = ((cell >= -2) & (cell < 2)).all(1) & (cell.sum(1) % 2 == 0)
        return torch.where(inside, -math.log(32.0), -math.inf).to(x)

    def entropy(self) -> float:
        return math.log(32.0)


@dataclass(frozen=True)
class _Gaussians:
    """``n`` equal Gaussians of standard deviation ``s`` around a circle of the given radius."""

    n: int
    radius: float
    s: float

    def centres(self) -> Tensor:
        angle = 2 * math.pi * torch.arange(self.n, dtype=torch.float64) / self.n
        return self.radius * torch.stack((angle.cos(), angle.sin()), 1)

    def sample(self, n: int, g: torch.Generator | None) -> Tensor:
        which = torch.randint(self.n, (n,), generator=g)
        return self.centres()[which] + self.s * _normal(n, g)

    def log_prob(self, x: Tensor) -> Tensor:
        logs = _log_normal(x, self.centres(), self.s)
        return logs.logsumexp(1) - math.log(self.n)

    entropy = _by_quadrature


@dataclass(frozen=True)
class _Rings:
    """Circles of equal weight plus N(0, s^2 I): a mixture of two-dimensional Rice densities.

    Averaging N(x; R u, s^2 I) over unit vectors u gives, with r = |x|,
    exp(-(r - R)^2 / 2 s^2) e^{-k} I_0(k) / (2 pi s^2) at k = r R / s^2.
    """

    radii: tuple[float, ...]
    s: float

    def sample(self, n: int, g: torch.Generator | None) -> Tensor:
        radii = torch.tensor(self.radii, dtype=torch.float64)
        radius = radii[torch.randint(len(radii), (n,), generator=g)]
        angle = 2 * math.pi * torch.rand(n, generator=g, dtype=torch.float64)
        return radius[:, None] * torch.stack((angle.cos(), angle.sin()), 1) + self.s * _normal(n, g)

    def log_prob(self, x: Tensor) -> Tensor:
        radii = torch.tensor(self.radii, dtype=torch.float64)
        r = x.norm(dim=1, keepdim=True)
        bessel = torch.special.i0e(r * radii / self.s**2).log()
        logs = bessel - (r - radii).square() / (2 * self.s**2)
        return logs.logsumexp(1) - math.log(2 * math.pi * self.s**2 * len(radii))

    entropy = _by_quadrature


@dataclass(frozen=True)
class _Arms:
    """Two curves of equal weight plus N(0, s^2 I).

    ``curve`` maps t in (0, end) to points (n, 2), ``turn`` those of the first curve to the
    second; t = end u^power for u uniform, whose density is t^(1 / power - 1) up to a factor.
    """

    curve: Callable[[Tensor], Tensor]
    turn: Callable[[Tensor], Tensor]
    end: float
    power: float
    s: float
    nodes: int

    def sample(self, n: int, g: torch.Generator | None) -> Tensor:
        t = self.end * torch.rand(n, generator=g, dtype=torch.float64) ** self.power
        first = self.curve(t)
        other = torch.randint(2, (n, 1), generator=g) == 1
        return torch.where(other, self.turn(first), first) + self.s * _normal(n, g)

    def log_prob(self, x: Tensor) -> Tensor:
        centres, log_weight = self.mixture(self.nodes)
        parts = [
            (_log_normal(part, centres, self.s) + log_weight).logsumexp(1)
            for part in x.split(_CHUNK)
        ]
        return torch.cat(parts) if parts else x.new_zeros(0)

    def mixture(self, nodes: int) -> tuple[Tensor, Tensor]:
        """The integral over t by Gauss-Legendre: centres (2 nodes, 2), log-weights (2 nodes,)."""
        at, weight = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(nodes))
        t = (at + 1) / 2  # of the length of the curve
        first = self.curve(self.end * t)
        density = t ** (1 / self.power - 1) / self.power
        log_weight = (weight / 2 * density / 2).log()  # of the quadrature, and of two curves
        return torch.cat((first, self.turn(first))), log_weight.repeat(2)

    entropy = _by_quadrature


def _half_circle(t: Tensor) -> Tensor:
    return torch.stack((2 * t.cos() - 1, 2 * t.sin() - 0.5), 1)


def _spiral(t: Tensor) -> Tensor:
    return t[:, None] / 3 * torch.stack((-t.cos(), t.sin()), 1)


_TOYS = {
    "checkerboard": _Checkerboard(),
    "two moons": _Arms(_half_circle, torch.neg, math.pi, 1.0, 0.2, 128),
    "rings": _Rings((1.0, 2.0, 3.0), 0.15),
    "eight Gaussians": _Gaussians(8, 3.0, 0.3),
    "spirals": _Arms(_spiral, torch.neg, 3 * math.pi, 0.5, 0.1, 512),
}


def names() -> list[str]:
    """The toys there are."""
    return list(_TOYS)


def sample(name: str, n: int, generator: torch.Generator | None = None) -> Tensor:
    """``n`` exact draws (n, 2), float32; unknown names: UsageError."""
    return _toy(name).sample(n, generator).float()


def log_prob(name: str, x: Tensor) -> Tensor:
    """The exact log-density in nats of the points x (n, 2) -> (n,), computed in float64.

    -inf outside of the checkerboard. Raises UsageError for unknown names, ShapeError if x is not
    (n, 2). The result has the type of x.
    """
    if x.dim() != 2 or x.shape[1] != 2:
        raise ShapeError(f"toys are points in the plane (n, 2), got {tuple(x.shape)}")
    with torch.no_grad():
        return _toy(name).log_prob(x.detach().cpu().double()).to(x)


@functools.cache
def entropy(name: str) -> float:
    """-E[log p] in nats, exact for the checkerboard and to 1e-6 for the others."""
    return _toy(name).entropy()


def _toy(name: str):
    if name not in _TOYS:
        raise unknown("toy", name, _TOYS)
    return _TOYS[name]


def _normal(n: int, g: torch.Generator | None) -> Tensor:
    return torch.randn(n, 2, generator=g, dtype=torch.float64)


def _log_normal(x: Tensor, centres: Tensor, s: float) -> Tensor:
    """log N(x; m, s^2 I) for all pairs: (n, 2), (k, 2) -> (n, k)."""
    # float64 leaves room for the cancellation, and a product of matrices is the fast way
    half_squares = x.square().sum(1, keepdim=True) / 2 + centres.square().sum(1) / 2
    return (x @ centres.T - half_squares) / s**2 - math.log(2 * math.pi * s**2)
