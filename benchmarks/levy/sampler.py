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
    """Momenta p ~ N(0, M) and velocities M^-1 p, for one matrix M (n, n) of all chains."""

    def __init__(self, m: Tensor):
        self.root = torch.linalg.cholesky(m).float()
        self.inverse = torch.linalg.inv(m).float()

    def momenta(self, e: Tensor) -> Tensor:
        return e @ self.root.T

    def velocity(self, p: Tensor) -> Tensor:
        return p @ self.inverse

    def kinetic(self, p: Tensor) -> Tensor:
        return 0.5 * (p * self.velocity(p)).flatten(1).sum(1)


@dataclass
class Draws:
    """Draws (S, N, n), their log-densities up to a constant (S, N), that of the truth (N,), the mean
    acceptance, and the number of chains."""

    x: Tensor
    log_p: Tensor
    log_p_of_truth: Tensor
    acceptance: float
    chains: int


def sample(
    flow,
    a: Tensor,
    y: Tensor,
    truth: Tensor,
    rough: Tensor,
    *,
    chains: int = 1,
    warmup: int = 60,
    kept: int = 120,
    steps: int = 4,
) -> Draws:
    """Draws of p(x | y), y = A x + N(0, I), for signals N side by side.

    Args:
        flow: over signals (n,).
        a, y: (m, n) and (N, m), whitened.
        truth: (N, n), whose density is wanted beside that of the draws.
        rough: (n, n), about the curvature of -log p of the flow: A^T A + rough is the metric, and
            chains begin with draws of the normal law that has this precision.
    """
    m = a.T @ a + rough
    metric, n = Metric(m), len(truth)
    physics = MatrixPhysics(a.float(), (1, 1, a.shape[1]))

    def target_of(copies: int) -> Target:
        seen = y.float().repeat_interleave(copies, 0)
        return Target(Signals(flow), physics, seen, torch.ones(len(seen)))

    target = target_of(chains)
    shape = (n * chains, 1, 1, a.shape[1])
    first = torch.linalg.solve(m, (y @ a).T).T.float().repeat_interleave(chains, 0)
    point = target.at(first.view(shape) + metric.velocity(metric.momenta(torch.randn(shape))))
    adapt = DualAveraging(torch.full((n,), 0.3))
    x, log_p, acceptance = [], [], 0.0
    for k in range(warmup + kept):
        step = (adapt.step if k < warmup else adapt.final).repeat_interleave(chains)
        length = int(torch.randint(steps // 2, steps + steps // 2 + 1, ()))
        p = metric.momenta(torch.randn(shape))
        moved = move(target, metric, point, p, torch.rand(len(step)), step, length)
        point = moved.point
        by_signal = moved.acceptance.view(n, chains).mean(1)
        if k < warmup:
            adapt.update(by_signal)
        else:
            x.append(point.u.view(n, chains, -1))
            log_p.append(point.log_p.view(n, chains))
            acceptance += float(by_signal.mean()) / kept
    exact = target_of(1).at(truth.float().view(n, 1, 1, -1)).log_p
    return Draws(
        torch.stack(x, 0).transpose(1, 2).flatten(0, 1),
        torch.stack(log_p, 0).transpose(1, 2).flatten(0, 1),
        exact,
        acceptance,
        chains,
    )
