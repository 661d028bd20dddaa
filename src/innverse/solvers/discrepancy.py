"""Morozov's discrepancy principle: the strongest prior under which the noise explains the misfit.

Of min_z ||A G(z) - y||^2 + gamma pen(z), gamma is lowered from where z = 0 is the answer, each
search starting from the last, until ||A G(z) - y||^2 <= tau^2 m sigma^2; then it is raised again as
far as that holds, by bisection (Morozov 1966; Engl, Hanke & Neubauer 1996, chapter 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UsageError
from ..optim import lbfgs
from .coverage import measured_values
from .problem import Problem

_FALL, _MOST_STAGES, _BISECTIONS = 4.0, 14, 4


@dataclass
class Chosen:
    """Per item: the latent, its weight, evaluations, and whether the noise level was reached."""

    z: Tensor
    gamma: Tensor
    evaluations: Tensor
    reached: Tensor


def noise_energy(problem: Problem, tau: float = 1.0) -> Tensor:
    """tau^2 m sigma^2 of each item (B,), with m the entries of y that are measured at all.

    Raises:
        UsageError: the noise level is unknown or zero.
    """
    sigma = torch.as_tensor(0.0 if problem.noise is None else problem.noise).to(problem.y.real)
    if not bool((sigma > 0).all()):
        raise UsageError(
            "gamma='discrepancy' needs the noise level: pass noise=, or a physics that knows it"
        )
    return tau**2 * measured_values(problem) * sigma.expand(problem.batch).square()


def choose_gamma(
    problem: Problem,
    decode: Callable[[Tensor], Tensor],
    penalty: Callable[[Tensor], Tensor],
    z: Tensor,
    *,
    steps: int,
    tau: float = 1.0,
) -> Chosen:
    """Find gamma item by item; ``steps`` L-BFGS steps in all at most, from the latents ``z``."""
    target = noise_energy(problem, tau)
    z, evaluations = z.clone(), torch.zeros(problem.batch, dtype=torch.long)
    gamma = _where_nothing_moves(problem, decode, z)
    above = gamma.clone()
    reached = torch.zeros(problem.batch, dtype=torch.bool, device=z.device)
    per_stage = max(2, steps // (_MOST_STAGES + _BISECTIONS))

    def search(items: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The latents of ``items`` under ``weight``, and which of them explain y."""

        def objective(z: Tensor, idx: Tensor) -> Tensor:
            misfit = problem.misfit(decode(z), items[idx])
            return misfit + weight[items[idx]] * penalty(z)

        result = lbfgs.minimize(objective, z[items], max_iter=per_stage, history=20)
        evaluations[items.cpu()] += result.n_evals
        with torch.no_grad():
            misfit = problem.misfit(decode(result.z), items)
        return result.z, misfit <= target[items]

    for stage in range(_MOST_STAGES):
        items = (~reached).nonzero().flatten()
        if items.numel() == 0:
            break
        problem.progress(
            stage, _MOST_STAGES + _BISECTIONS, f"{items.numel()} above the noise level"
        )
        z[items], found = search(items, gamma)
        reached[items] = found
        rest = items[~found]
        above[rest] = gamma[rest]
        gamma[rest] = gamma[rest] / _FALL
    items = reached.nonzero().flatten()
    for k in range(_BISECTIONS if items.numel() else 0):
        problem.progress(_MOST_STAGES + k, _MOST_STAGES + _BISECTIONS, "raising gamma")
        middle = (gamma * above).sqrt()
        new, found = search(items, middle)
        better, worse = items[found], items[~found]
        z[better], gamma[better] = new[found], middle[better]
        above[worse] = middle[worse]
    return Chosen(z, gamma, evaluations, reached)


def _where_nothing_moves(problem: Problem, decode, z: Tensor) -> Tensor:
    """A gamma that keeps z where it is under the norm: the slope of the misfit there."""
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        misfit = problem.misfit(decode(at), torch.arange(problem.batch, device=z.device))
        (g,) = torch.autograd.grad(misfit.sum(), at)
    return g.flatten(1).norm(dim=1).clamp_min(1e-12)
