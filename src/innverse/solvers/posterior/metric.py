"""The metric in which the posterior is nearly round: M = A^T A / s^2 + I / sigma0^2.

Its first term is the curvature of the likelihood, its second the largest that the density of
anything plus N(0, sigma0^2) can have. The Metropolis correction makes any fixed M exact, as long as
the kinetic energy is p^T M^-1 p / 2 with momenta from N(0, M); this one takes away what is stiff.

`metric_for` takes the cheapest that is near: the closed form of the operator, that of few data
(`FewData`), a diagonal in frequencies or in pixels (`Spectral`), and conjugate gradients last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ...physics import LinearPhysics, Whitened
from .target import Target

_TOLERANCE = 1e-6  # of conjugate gradients, where M has no inverse in closed form
_MOST_DATA = 4096  # values, beyond which a matrix of their products takes more than seconds
_PROBES = 16
_NEAR = 10.0  # condition number of A^T A / s^2 + I / sigma0^2 in a metric that is near enough


class Kinetic(Protocol):
    """What a trajectory asks of a metric, for images or latents (N, ...)."""

    def momenta(self, of_data: Tensor, of_image: Tensor) -> Tensor:
        """p ~ N(0, M) from normal draws, one of the shape of y and one of the shape of u."""
        ...

    def velocity(self, p: Tensor) -> Tensor:
        """M^-1 p."""
        ...

    def kinetic(self, p: Tensor) -> Tensor:
        """p^T M^-1 p / 2 of each chain (N,)."""
        ...


class Flat:
    """M = I, for latents; and the energy of any metric that knows its velocities."""

    def momenta(self, of_data: Tensor, of_image: Tensor) -> Tensor:
        return of_image

    def velocity(self, p: Tensor) -> Tensor:
        return p

    def kinetic(self, p: Tensor) -> Tensor:
        return 0.5 * (p * self.velocity(p)).flatten(1).sum(1)


class Metric(Flat):
    """M for the chains of a `Target`, inverted by ``solve_normal``; ``scale`` is sigma0 (N,)."""

    def __init__(self, target: Target, scale: Tensor):
        self.target, self.scale = target, scale
        self._rho = (target.noise / scale).square()

    def momenta(self, of_data: Tensor, of_image: Tensor) -> Tensor:
        """p ~ N(0, M) from two normal draws, one of the shape of y and one of the shape of u."""
        target = self.target
        seen = target.physics.A_adjoint(of_data) / _beside(target.noise, of_image)
        p = of_image / _beside(self.scale, of_image)
        return _add_inside(p, seen)

    def velocity(self, p: Tensor) -> Tensor:
        """M^-1 p."""
        target = self.target
        inside = target.crop(p) * _beside(target.noise, p).square()
        v = p * _beside(self.scale, p).square()
        solved = target.physics.solve_normal(inside, self._rho, tol=_TOLERANCE)
        return _put_inside(v, solved)


class FewData(Metric):
    """The same M for an operator with few measured values, by the matrix K = W A A^T W + rho I.

    M^-1 p = sigma0^2 (p - A^T W K^-1 W A p), by Woodbury's identity. K is factorised in float64, once
    for all chains with the same weights W of the data and the same rho.

    Args:
        gram: A A^T (m, m), of all chains, without their weights.
    """

    def __init__(self, target: Target, scale: Tensor, gram: Tensor):
        super().__init__(target, scale)
        kinds, self._which = _kinds(target, self._rho)
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        self._factors = [
            torch.linalg.cholesky(w[:, None] * gram * w + rho * eye)
            for rho, w in zip(kinds[:, 0], kinds[:, 1:], strict=True)
        ]

    def velocity(self, p: Tensor) -> Tensor:
        physics, p_inside = self.target.physics, self.target.crop(p)
        seen = physics.A(p_inside)
        rows = seen.flatten(1).double()
        solved = torch.empty_like(rows)
        for i, factor in enumerate(self._factors):
            mine = self._which == i
            solved[mine] = torch.cholesky_solve(rows[mine].T, factor).T
        back = physics.A_adjoint(solved.to(seen).view_as(seen))
        return _add_inside(p, -back) * _beside(self.scale, p).square()


def _kinds(target: Target, rho: Tensor) -> tuple[Tensor, Tensor]:
    """The different rows (rho, weights) (K, 1 + m or 2) of the chains, and which each has (N,)."""
    physics = target.physics
    weight = physics.weight if isinstance(physics, Whitened) else rho.new_ones(1, 1)
    rows = torch.cat((rho[:, None], weight.flatten(1).to(rho).expand(len(rho), -1)), 1)
    return rows.double().unique(dim=0, return_inverse=True)


class Spectral(Flat):
    """M = F^T (a / s^2 + 1 / sigma0^2) F with an orthonormal F: frequencies, or pixels.

    Args:
        a: the diagonal of F A^T A F^T, which broadcasts against transformed images; see `diagonal`.
        basis: ``"frequencies"`` or ``"pixels"``.
    """

    def __init__(self, target: Target, scale: Tensor, a: Tensor, basis: str):
        self._to, self._back = _BASES[basis]
        s, sigma0 = _beside(target.noise, a), _beside(scale, a)
        self._weight = a / s.square() + 1 / sigma0.square()

    def momenta(self, of_data: Tensor, of_image: Tensor) -> Tensor:
        return self._back(self._weight.sqrt() * self._to(of_image), of_image.shape)

    def velocity(self, p: Tensor) -> Tensor:
        return self._back(self._to(p) / self._weight, p.shape)


_BASES: dict[str, tuple[Callable, Callable]] = {
    "frequencies": (
        lambda x: torch.fft.rfft2(x.contiguous(), norm="ortho"),
        lambda z, shape: torch.fft.irfft2(z, s=shape[-2:], norm="ortho"),
    ),
    "pixels": (lambda x: x, lambda z, shape: z),
}


def metric_for(target: Target, like: Tensor) -> Callable[[Target, Tensor], Kinetic]:
    """What makes the metric of a target and a scale, chosen for the operator of ``target``.

    Args:
        like: images (N, C, H, W) of the size that is sampled.
    """
    physics, m = target.physics, target.y[0].numel()
    if physics.direct:
        return Metric
    plain = physics.physics if isinstance(physics, Whitened) else physics
    few = m <= _MOST_DATA and _serves_all(plain)
    # weights are compared only where data are few; each kind of them takes a matrix of its own
    if few and len(_kinds(target, target.noise)[0]) * m**2 <= _MOST_DATA**2:
        first = torch.zeros(1, dtype=torch.long, device=like.device)
        gram = gram_matrix(plain.select(first), target.y[:1])
        return lambda target, scale: FewData(target, scale, gram)
    spectra = {basis: diagonal(target, like, basis) for basis in _BASES}
    return lambda target, scale: _nearest(target, scale, spectra, like)


def _serves_all(physics: LinearPhysics) -> bool:
    """Whether all items have the same operator, and the same weights."""
    parts = [m for m in physics.modules() if isinstance(m, LinearPhysics)]
    weights = [m.weight for m in parts if isinstance(m, Whitened)]
    return all(m.items == 1 for m in parts) and all(bool((w == w[:1]).all()) for w in weights)


@torch.no_grad()
def gram_matrix(physics: LinearPhysics, y: Tensor, at_once: int = 64) -> Tensor:
    """A A^T (m, m) in float64, of an operator that serves any batch; y is one measurement."""
    unit = torch.eye(y.numel(), dtype=y.dtype, device=y.device)
    rows = [
        physics.A(physics.A_adjoint(part.view(-1, *y.shape[1:]))).flatten(1)
        for part in unit.split(at_once)
    ]
    gram = torch.cat(rows).double()
    return 0.5 * (gram + gram.T)


@torch.no_grad()
def diagonal(target: Target, like: Tensor, basis: str) -> Tensor:
    """The diagonal of F A^T A F^T (N, ...), >= 0, by ``_PROBES`` random images.

    The same for all chains, so that what an item gets does not depend on those beside it. Exact
    where F makes A^T A diagonal: a circular convolution, a mask.
    """
    to, _ = _BASES[basis]
    generator = torch.Generator().manual_seed(0)
    product, square = torch.zeros(()), torch.zeros(())
    for _ in range(_PROBES):
        probe = torch.randn(like.shape[1:], generator=generator).to(like).expand_as(like)
        normal = target.physics.A_normal(target.crop(probe))
        there, back = to(probe), to(_put_inside(torch.zeros_like(probe), normal))
        product = product + (there.conj() * back).real
        square = square + there.abs().square()
    return (product / square).clamp_min(0)


def _nearest(target: Target, scale: Tensor, spectra: dict[str, Tensor], like: Tensor) -> Kinetic:
    """The diagonal metric that is nearest to M for the hardest item, or conjugate gradients."""
    from .conditioning import ritz

    exact = Metric(target, scale)

    def curvature(v: Tensor) -> Tensor:
        physics = target.physics
        seen = physics.A_normal(target.crop(v)) / _beside(target.noise, v).square()
        return _add_inside(v / _beside(scale, v).square(), seen)

    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(like.shape[1:], generator=generator).to(like).expand_as(like)
    best: tuple[float, Kinetic] = (_NEAR, exact)
    for basis, a in spectra.items():
        metric = Spectral(target, scale, a, basis)
        values = ritz(curvature, metric, metric.momenta(target.y, normal))
        condition = float((values.amax(1) / values.amin(1).clamp_min(1e-12)).max())
        best = min(best, (condition, metric), key=lambda pair: pair[0])
    return best[1]


def scale_of(density, level: float | None, u: Tensor) -> Tensor:
    """The metric's scale at each u (N,): the noise level of the prior, or 1 / sqrt of the largest
    curvature of a density without levels."""
    return steepest_scale(density, u) if level is None else torch.full((len(u),), level).to(u)


def steepest_scale(density, u: Tensor, iterations: int = 20) -> Tensor:
    """1 / sqrt of the largest curvature of -log p at each u (N,), by power iteration.

    What stands for sigma0 under a density without noise levels.
    """
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(density.log_prob(u).sum(), u, create_graph=True)
        # one start for all: what an item gets does not depend on those beside it
        v = torch.randn(u.shape[1:], generator=torch.Generator().manual_seed(0)).to(u).expand_as(u)
        for _ in range(iterations):
            v = v / _beside(v.flatten(1).norm(dim=1), v)
            (product,) = torch.autograd.grad(gradient, u, v, retain_graph=True)
            curvature = -(v * product).flatten(1).sum(1)
            v = product
    return curvature.abs().clamp_min(1e-12).rsqrt().detach()


def _beside(values: Tensor, images: Tensor) -> Tensor:
    return values.view(-1, *[1] * (images.dim() - 1))


def _add_inside(whole: Tensor, part: Tensor) -> Tensor:
    return _put_inside(whole, whole[..., : part.shape[-2], : part.shape[-1]] + part)


def _put_inside(whole: Tensor, part: Tensor) -> Tensor:
    """``whole`` with ``part`` in its upper left corner."""
    if whole.shape == part.shape:
        return part
    whole = whole.clone()
    whole[..., : part.shape[-2], : part.shape[-1]] = part
    return whole
