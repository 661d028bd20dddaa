"""The metric in which the posterior is nearly round: M = A^T A / s^2 + C^-1 / sigma0^2.

Its first term is the curvature of the likelihood, its second that of the prior, at most I / sigma0^2,
since nothing plus N(0, sigma0^2) has a density that is curved more (see `prior_spectrum` for C, the
identity where it is not known). The Metropolis correction makes any fixed M exact, as long as the
kinetic energy is p^T M^-1 p / 2 with momenta from N(0, M); this one takes away what is stiff.

`metric_for` takes what has an inverse in closed form and is near: pixels, frequencies, a matrix of
few data, the operator's own with C = I, and conjugate gradients last.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from .target import Target

_TOLERANCE = 1e-6  # of conjugate gradients, where M has no inverse in closed form


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
    """M with C = I for the chains of a `Target`, by ``solve_normal``; ``scale`` is sigma0 (N,)."""

    def __init__(self, target: Target, scale: Tensor):
        self.target, self.scale = target, scale
        self._rho = (target.noise / scale).square()

    def momenta(self, of_data: Tensor, of_image: Tensor) -> Tensor:
        """p ~ N(0, M) from two normal draws, one of the shape of y and one of the shape of u."""
        target = self.target
        seen = target.physics.A_adjoint(of_data) / beside(target.noise, of_image)
        p = of_image / beside(self.scale, of_image)
        return add_inside(p, seen)

    def velocity(self, p: Tensor) -> Tensor:
        """M^-1 p."""
        target = self.target
        inside = target.crop(p) * beside(target.noise, p).square()
        v = p * beside(self.scale, p).square()
        solved = target.physics.solve_normal(inside, self._rho, tol=_TOLERANCE)
        return put_inside(v, solved)


def beside(values: Tensor, images: Tensor) -> Tensor:
    return values.view(-1, *[1] * (images.dim() - 1))


def add_inside(whole: Tensor, part: Tensor) -> Tensor:
    return put_inside(whole, whole[..., : part.shape[-2], : part.shape[-1]] + part)


def put_inside(whole: Tensor, part: Tensor) -> Tensor:
    """``whole`` with ``part`` in its upper left corner."""
    if whole.shape == part.shape:
        return part
    whole = whole.clone()
    whole[..., : part.shape[-2], : part.shape[-1]] = part
    return whole
