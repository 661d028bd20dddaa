"""Noiseless measurements: max_x log p(x) subject to A x = y.

Asim et al. 2020 (arXiv 1905.11672), eq. 2, without a penalty: the search starts at an image that
explains y and moves in the null space of A only, so the measurement is met all along.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..catalog import Method
from ..errors import UsageError
from ..optim import lbfgs
from ..options import LEVEL, array, real, whole
from ..protocols import Density, multiple_of
from .levels import priors_at
from .needs import check_density
from .problem import Problem
from .reconstruction import Reconstruction
from .watch import Watch

FEASIBLE = 1e-6  # relative residual that counts as A x = y


class Constrained(Method):
    """The most likely image that explains y exactly, for measurements without noise: max over x of
    log p(x) with A x = y.

    L-BFGS in the null space, from the most likely image, corrected to explain y. An item has
    converged if its relative residual is 1e-6 or less and its search did not fail: measurements with
    noise that no image explains do not converge.
    """

    sigma: float | Sequence[float] | None = real(None, LEVEL, above=0, several=True, auto="0.02")
    steps: int = whole(200, "Iterations.")
    init: Tensor | None = array(None, "Latents (B, ...) or images (B, C, H, W) to begin with.")

    def solve(self, problem: Problem, prior: Density) -> Reconstruction:
        check_density("constrained", prior)
        prior = priors_at(prior, self.sigma)[-1]
        physics = problem.physics
        multiple = multiple_of(prior)
        if problem.padded_shape(multiple) != problem.shape:
            raise UsageError(
                f"method 'constrained' needs sides that divide by {multiple}, got "
                f"{problem.shape[1]}x{problem.shape[2]}: crop the images, or take method='latent'"
            )

        def objective(x: Tensor, idx: Tensor) -> tuple[Tensor, Tensor]:
            some = physics.select(idx)
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                log_p = prior.log_prob(x)
                (g,) = torch.autograd.grad(log_p.sum(), x)
            with torch.no_grad():
                watch.saw(idx, -log_p, problem.misfit(x, idx), log_prob=log_p)
                return -log_p.detach(), some.A_dagger(some.A(g)) - g

        watch = Watch(problem, self.steps)
        with torch.no_grad():
            init = self.init
            if init is None:
                zero = problem.y.new_zeros(
                    (problem.batch, *problem.shape), dtype=problem.y.real.dtype
                )
                init = prior.decode(zero)
            x = _explain(problem, init)
        result = lbfgs.minimize(objective, x, max_iter=self.steps, history=20, callback=watch.step)
        with torch.no_grad():
            x = _explain(problem, result.z)  # rounding of many steps adds up
            log_prob, z = prior.log_prob(x), prior.encode(x)
        met = problem.residual(x) <= FEASIBLE
        found = {"z": z, "log_prob": log_prob, "converged": met & result.finished.to(met.device)}
        found |= {"status": result.status} | watch.record
        return Reconstruction.of(problem, x, "constrained", **found)


def _explain(problem: Problem, x: Tensor, rounds: int = 5) -> Tensor:
    """The image nearest to x with A x = y, corrected until rounding stops it."""
    best, least = x, torch.full((len(x),), torch.inf).to(x)
    for _ in range(rounds):
        x = x + problem.physics.A_dagger(problem.y - problem.physics.A(x))
        residual = problem.residual(x)
        better = residual < least
        best = torch.where(better.view(-1, 1, 1, 1), x, best)
        least = torch.where(better, residual, least)
        if not bool(better.any()):
            break
    return best
