"""Total variation: min_x 1/2 ||A x - y||^2 + lam TV(x).

Rudin, Osher & Fatemi (Physica D 60, 1992), solved by the primal-dual method of Chambolle & Pock
(JMIV 40, 2011) with over-relaxation. The data term enters through its proximal map when the
operator solves its normal equations in closed form, and through a second dual variable when it
does not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...physics import Whitened, as_physics, whiten
from ...shapes import wide
from .iterate import Iterate, begin, run

RELAX = 1.8
NOISELESS = 3e-5


def default_lam(sigma: float | Tensor | None, physics=None) -> float | Tensor:
    """The weight of TV for noise of standard deviation sigma.

    Fitted on fourteen crops of photographs: on their mean, within 0.1 dB of the best weight for
    denoising, Gaussian blur and motion; checked on fewer for the operators that sample.

    Args:
        sigma: noise level on the [0, 1] scale, one number or (B,). None or 0 means no noise: a
            tiny weight remains, and the data is met almost exactly.
        physics: the operator; None means denoising. A blur amplifies noise less than it hides
            detail, so it wants less smoothing; so do fewer data per pixel.
    """
    if sigma is None:
        return NOISELESS
    if isinstance(physics, Whitened):
        physics = physics.physics
    kind = "Denoising" if physics is None else type(physics).__name__
    if kind in _NATS:
        return _NATS[kind] * sigma**2
    if kind in _SAMPLED:
        factor, power = 1.5 * _SAMPLED[kind](physics) ** 0.5, 1.27
    else:
        factor, power = 1.5, 1.64
    if isinstance(sigma, Tensor):
        return (factor * sigma**power).clamp_min(NOISELESS)
    return max(factor * float(sigma) ** power, NOISELESS)


# weights against the log-likelihood, for scans of many measurements a pixel: of 10 to 90 tried on one
# slice and one head
_NATS = {"Tomography": 20.0, "MRI": 20.0}

# measurements per pixel of the operators that sample without blurring
_SAMPLED = {
    "Denoising": lambda physics: 1.0,
    "Inpainting": lambda physics: float((physics.mask != 0).float().mean()),
    "SubsampledFourier": lambda physics: float((physics.mask != 0).float().mean()),
    "Downsampling": lambda physics: 1 / physics.factor**2,
    "CompressedSensing": lambda physics: physics.matrix.shape[0] / physics.matrix.shape[1],
    "FastCompressedSensing": lambda physics: physics.m / physics.n,
}


def tv(
    y: Tensor, physics, lam: float | Tensor | None = None, iters: int = 400, **options
) -> Tensor:
    """The images of `iterate_tv` alone, (B, C, H, W), not clipped."""
    return iterate_tv(y, physics, lam, iters, **options).x


@torch.no_grad()
def iterate_tv(
    y: Tensor,
    physics,
    lam: float | Tensor | None = None,
    iters: int = 400,
    *,
    coupled: bool = True,
    tol: float = 1e-4,
    x0: Tensor | None = None,
    step: float = 0.02,
    callback: Callable[[int, Tensor], bool | None] | None = None,
) -> Iterate:
    """Reconstruct images from y by total variation (isotropic, forward differences).

    Items are independent and each stops by itself.

    Args:
        y: measurement, batch of B.
        physics: a `LinearPhysics`, or anything that `as_physics` accepts; if its noise differs
            from value to value, the misfit is weighted by it (`innverse.physics.whiten`).
        lam: weight of TV, > 0, one number or (B,); None takes `default_lam` of the noise level.
        iters: most iterations.
        coupled: whether the channels of a colour image share their edges.
        tol: an item stops when ten iterations change it by less than this, relatively.
        x0: first guess; defaults to A_adjoint(y) / ||A||^2.
        step: ratio of primal and dual steps, on the [0, 1] scale of intensities.
        callback: sees (iteration, x) at every check; returning True stops.

    Returns:
        The images (B, C, H, W), not clipped, with the iterations of each item.
    """
    y, physics = whiten(y, as_physics(physics))
    if lam is None:
        lam = default_lam(physics.sigma, physics)
    lam, back = begin(y, physics, lam, "TV weight", above=True)
    norms = physics.norms_squared(back).to(back).expand(len(y)).clamp_min(1e-30)
    x = back / wide(norms, back) if x0 is None else x0.clone()
    return run(_State(physics, y, back, lam, x, coupled, step, norms), iters, tol, callback)


class _State:
    """Primal x and duals p (of the gradient), q (of the data) of TV(x) + 1/(2 lam) ||A x - y||^2.

    Divided by lam, the problem keeps its dual p in the unit ball, and the limit lam -> 0 (meet the
    data, then minimise TV) is as well behaved as any other: no continuation is needed.
    """

    def __init__(self, physics, y, back, lam, x, coupled, step, norms):
        self.physics, self.y, self.back, self.lam = physics, y, back, lam
        self.point, self.coupled = x, coupled
        self.p = x.new_zeros(2, *x.shape)
        self.direct = physics.direct
        norm2 = 8.0
        if not self.direct:
            # scale the data rows to the norm of the gradient, so that one step suits both
            self.scale = (8.0 / norms).sqrt()
            self.q = torch.zeros_like(y)
            norm2 = 16.0
        self.tau, self.dual_step = step, 0.99 / (norm2 * step)

    def iterate(self):
        """One relaxed step. The dual moves along the extrapolated primal point."""
        tau, sigma = self.tau, self.dual_step
        v = self.point - tau * divergence_adjoint(self.p)
        if self.direct:
            # prox of 1/(2 lam) ||A x - y||^2: (A^T A + lam/tau) x = A^T y + (lam/tau) v
            rho = self.lam / tau
            x = self.physics.solve_normal(self.back + wide(rho, v) * v, rho)
        else:
            x = v - tau * wide(self.scale, v) * self.physics.A_adjoint(self.q)
        ahead = 2 * x - self.point
        p = _project(self.p + sigma * gradient(ahead), self.coupled)
        self.point = self.point + RELAX * (x - self.point)
        self.p = self.p + RELAX * (p - self.p)
        if not self.direct:
            # the dual of 1/(2 lam a^2) ||a A x - a y||^2
            a = wide(self.scale, self.q)
            q = self.q + sigma * a * (self.physics.A(ahead) - self.y)
            q = q / (1 + sigma * a**2 * wide(self.lam, q))
            self.q = self.q + RELAX * (q - self.q)

    def images(self):
        return self.point

    def keep(self, rows):
        self.physics = self.physics.select(rows)
        self.y, self.back, self.lam = self.y[rows], self.back[rows], self.lam[rows]
        self.point, self.p = self.point[rows], self.p[:, rows]
        if not self.direct:
            self.q, self.scale = self.q[rows], self.scale[rows]


def gradient(x: Tensor) -> Tensor:
    """Forward differences down and across, (2, B, C, H, W); zero at the far border."""
    g = x.new_zeros(2, *x.shape)
    torch.sub(x[..., 1:, :], x[..., :-1, :], out=g[0, ..., :-1, :])
    torch.sub(x[..., 1:], x[..., :-1], out=g[1, ..., :-1])
    return g


def divergence_adjoint(p: Tensor) -> Tensor:
    """The adjoint of `gradient` (minus the divergence). Its border entries of p must be zero."""
    out = -(p[0] + p[1])
    out[..., 1:, :] += p[0, ..., :-1, :]
    out[..., 1:] += p[1, ..., :-1]
    return out


def total_variation(x: Tensor, coupled: bool = True) -> Tensor:
    """Isotropic total variation of each image, (B,)."""
    square = gradient(x).square().sum(0)
    if coupled:
        square = square.sum(1, keepdim=True)
    return square.sqrt().flatten(1).sum(1)


def _project(p: Tensor, coupled: bool) -> Tensor:
    """Onto gradients of length <= 1 at every pixel."""
    square = p[0] * p[0] + p[1] * p[1]
    if coupled and p.shape[2] > 1:
        square = square.sum(1, keepdim=True)
    return p / square.sqrt_().clamp_min_(1.0)
