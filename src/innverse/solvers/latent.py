"""Latent-space reconstruction: min_z ||A G(z) - y||^2 + gamma ||z||.

Asim et al. 2020 (arXiv 1905.11672). With z0 = 0 and gamma = 0 the path of the optimiser from the
most likely latent is the regulariser.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UsageError
from .discrepancy import choose_gamma
from .optim import adam, lbfgs
from .problem import Problem
from .reconstruction import Reconstruction
from .starts import latent_start

_PENALTIES = {
    "norm": lambda z: (z.flatten(1).square().sum(1) + 1e-12).sqrt(),
    "square": lambda z: z.flatten(1).square().sum(1),
}


def solve_latent(
    problem: Problem,
    prior,
    *,
    gamma: float | str = 0.0,
    penalty: str = "norm",
    steps: int | None = None,
    init: Tensor | None = None,
    start: str = "zero",
    optimizer: str = "lbfgs",
    seed: int = 0,
) -> Reconstruction:
    """Minimise over z from ``init``, or from a start of `latent_start`.

    ``optimizer`` is ``"lbfgs"`` (150 steps at most, one line search per item) or ``"adam"`` (500
    steps). The residual falls with the steps; log p and ||z|| tell how far the search has gone.
    """
    if optimizer not in ("lbfgs", "adam"):
        raise UsageError(f"optimizer={optimizer!r}: choose 'lbfgs' or 'adam'")
    if penalty not in _PENALTIES:
        raise UsageError(f"penalty={penalty!r}: choose 'norm' or 'square'")
    if isinstance(gamma, str) and gamma != "discrepancy":
        raise UsageError(f"gamma={gamma!r}: give a number or 'discrepancy'")
    if not isinstance(gamma, str) and gamma < 0:
        raise UsageError(f"gamma={gamma:g}: must be >= 0")
    steps = steps or (150 if optimizer == "lbfgs" else 500)
    shape = tuple(prior.latent_shape)
    if shape == tuple(getattr(prior, "shape", ())):  # a flow: its latents have the image's size
        shape = problem.padded_shape(getattr(prior, "multiple", 1))
    z0 = latent_start(start, problem, prior, shape, seed) if init is None else init

    if gamma == "discrepancy":
        return _by_discrepancy(problem, prior, penalty, z0, steps)

    def objective(z: Tensor, idx: Tensor) -> Tensor:
        value = problem.misfit(problem.crop(prior.decode(z)), idx)
        return value + gamma * _PENALTIES[penalty](z) if gamma else value

    trace: list[dict] = []

    def watch(state) -> None:
        trace.append({"value": state.value.tolist(), "active": state.active})
        problem.progress(min(state.rounds, steps), steps, f"{state.active} running")

    if optimizer == "lbfgs":
        result = lbfgs.minimize(objective, z0, max_iter=steps, history=20, callback=watch)
    else:
        result = adam.minimize(objective, z0, max_iter=steps, callback=watch)
    with torch.no_grad():
        full = prior.decode(result.z)
    # a fixed number of steps is how the method is meant to stop, not a failure
    done = result.converged | torch.tensor([s.startswith("max") for s in result.status])
    return Reconstruction(
        x=problem.crop(full),
        z=result.z,
        log_prob=_log_prob(prior, full),
        residual=problem.residual(problem.crop(full)),
        converged=done,
        status=result.status,
        evaluations=result.n_evals,
        method="latent",
        trace=trace,
    )


def _by_discrepancy(problem: Problem, prior, penalty: str, z0: Tensor, steps: int):
    def decode(z: Tensor) -> Tensor:
        return problem.crop(prior.decode(z))

    found = choose_gamma(problem, decode, _PENALTIES[penalty], z0, steps=steps)
    with torch.no_grad():
        full = prior.decode(found.z)
    return Reconstruction(
        x=problem.crop(full),
        z=found.z,
        log_prob=_log_prob(prior, full),
        residual=problem.residual(problem.crop(full)),
        converged=found.reached,
        status=[
            f"converged: gamma {g:.3g}" if ok else "failed: the noise level is not reached"
            for g, ok in zip(found.gamma.tolist(), found.reached.tolist(), strict=True)
        ],
        evaluations=found.evaluations,
        method="latent",
        trace=[{"gamma": found.gamma.tolist()}],
    )


def _log_prob(prior, x: Tensor) -> Tensor | None:
    if not hasattr(prior, "log_prob"):
        return None
    with torch.no_grad():
        return prior.log_prob(x)
