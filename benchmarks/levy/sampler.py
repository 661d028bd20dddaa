"""Posterior draws by the package's Hamiltonian Monte Carlo, all signals of a batch side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from innverse.physics import MatrixPhysics
from innverse.solvers.posterior.adapt import DualAveraging
from innverse.solvers.posterior.hmc import move
from innverse.solvers.posterior.target import Target


class Signals:
    """A flow over vectors (n,) as a density of images (1, 1, n)."""

    def __init__(self, flow):
        self.flow = flow

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x.flatten(1))


class Metric:
    """Momenta p ~ N(0, M) and velocities M^-1 p, for one matrix M (n, n) or one of each chain."""

    def __init__(self, m: Tensor):
        root = torch.linalg.cholesky(m)
        self.root = root.mT.float().unsqueeze(-3)  # images are (N, 1, 1, n)
        self.inverse = torch.cholesky_inverse(root).float().unsqueeze(-3)

    def momenta(self, e: Tensor) -> Tensor:
        return e @ self.root

    def velocity(self, p: Tensor) -> Tensor:
        return p @ self.inverse

    def kinetic(self, p: Tensor) -> Tensor:
        return 0.5 * (p * self.velocity(p)).flatten(1).sum(1)


def start_in_jumps(
    flow, a: Tensor, y: Tensor, scale: float, iterations: int = 10
) -> tuple[Tensor, Tensor]:
    """Signals (N, n) near a maximum of the posterior, and the curvature (N, n, n) of -log p there.

    The normal law of the increments w that has, at every w, the slope of log p(w) has the precision
    -(log p)'(w) / w; solving for the signal and asking again comes to rest (half-quadratic, or
    iteratively reweighted, least squares). It is small where a jump is: between 1 / (scale^2 + w^2),
    that of a Cauchy law, and 1 / scale^2.
    """
    n = a.shape[1]
    c = torch.ones(n, n, dtype=a.dtype).tril()
    difference = torch.linalg.inv(c)
    precision = torch.full((len(y), n), scale**-2, dtype=a.dtype)
    seen, gram = (y @ a)[:, :, None], a.T @ a
    for _ in range(iterations):
        curvature = difference.T @ (precision[:, :, None] * difference)
        x = torch.cholesky_solve(seen, torch.linalg.cholesky(gram + curvature))[:, :, 0]
        slope = flow.score(x.float()).double() @ c
        w = x @ difference.T
        least = 1 / (scale**2 + w.square())
        precision = torch.maximum(-slope / w, least).clamp_max(scale**-2)
    return x, curvature


def start_in_steps(
    a: Tensor, y: Tensor, level: float, smallest: float = 0.1, iterations: int = 20
) -> tuple[Tensor, Tensor]:
    """Signals (N, n) of few steps that explain y, and the curvature of -log p of such signals plus
    N(0, level^2) there.

    Reweighted least squares as in `start_in_jumps`, with the precision 2 / (d^2 + w^2) of an increment
    w, whose d falls from 1 to ``smallest``. The signal is then normal with the variances 1 / precision.
    """
    n = a.shape[1]
    c = torch.ones(n, n, dtype=a.dtype).tril()
    difference = torch.linalg.inv(c)
    w = torch.zeros(len(y), n, dtype=a.dtype)
    seen, gram = (y @ a)[:, :, None], a.T @ a
    for k in range(iterations):
        d = smallest ** min(1.0, 1.5 * k / iterations)
        precision = 2 / (d**2 + w.square())
        curvature = difference.T @ (precision[:, :, None] * difference)
        x = torch.cholesky_solve(seen, torch.linalg.cholesky(gram + curvature))[:, :, 0]
        w = x @ difference.T
    covariance = c @ ((1 / precision)[:, :, None] * c.T) + level**2 * torch.eye(n, dtype=a.dtype)
    return x, torch.linalg.inv(covariance)


@dataclass
class Draws:
    """Draws u and grad log p(u) (S, N, n), their log-densities given y up to a constant (S, N), that of
    the truth (N,), and the mean acceptance."""

    u: Tensor
    score: Tensor
    log_p: Tensor
    log_p_of_truth: Tensor
    acceptance: float


def sample(
    flow,
    a: Tensor,
    y: Tensor,
    truth: Tensor,
    start: Tensor,
    curvature: Tensor,
    *,
    warmup: int = 60,
    kept: int = 120,
    steps: int = 8,
) -> Draws:
    """Draws of p(x | y), y = A x + N(0, I), one chain for each of N signals side by side.

    Args:
        flow: over signals (n,).
        a, y: (m, n) and (N, m), whitened.
        truth: (N, n), whose density is wanted beside that of the draws.
        start: (N, n), around which chains begin.
        curvature: about that of -log p of the flow, (n, n) or (N, n, n): with A^T A it is the metric.
        warmup, kept: transitions before and after the step size is fixed.
        steps: leapfrog steps of a transition, on average.
    """
    metric, n = Metric(a.T @ a + curvature), len(truth)
    seen = a.float()
    physics = MatrixPhysics(seen, (1, 1, a.shape[1]))
    target = Target(Signals(flow), physics, y.float(), torch.ones(n))
    shape = (n, 1, 1, a.shape[1])
    apart = metric.velocity(metric.momenta(torch.randn(shape)))
    point = target.at(start.float().view(shape) + apart)
    adapt = DualAveraging(torch.full((n,), 0.3))
    kept_points, acceptance = [], 0.0
    for k in range(warmup + kept):
        length = int(torch.randint(steps // 2, steps + steps // 2 + 1, ()))
        step = adapt.step if k < warmup else adapt.final
        p = metric.momenta(torch.randn(shape))
        moved = move(target, metric, point, p, torch.rand(n), step, length)
        point = moved.point
        if k < warmup:
            adapt.update(moved.acceptance)
        else:
            kept_points.append(point)
            acceptance += float(moved.acceptance.mean()) / kept
    u = torch.stack([at.u.flatten(1) for at in kept_points])
    gradient = torch.stack([at.gradient.flatten(1) for at in kept_points])
    return Draws(
        u,
        gradient - (y.float() - u @ seen.T) @ seen,  # without that of the likelihood
        torch.stack([at.log_p for at in kept_points]),
        target.at(truth.float().view(shape)).log_p,
        acceptance,
    )
