"""Maximum a posteriori in image space: min_x -log p(x) + ||A x - y||^2 / (2 s^2).

The log-density is the flow's exact one, log-determinant included. With a noise-conditional flow
the search starts with the smoothed density at a large sigma and follows it down (graduated
non-convexity), each stage from the result of the last.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..flows.padding import pad_to_multiple
from .optim import lbfgs
from .problem import Problem
from .reconstruction import Reconstruction

_STAGES = 4
_FIRST_SIGMA = 0.2


def solve_map(
    problem: Problem,
    prior,
    *,
    sigma: float | None = None,
    steps: int | None = None,
    init: Tensor | None = None,
) -> Reconstruction:
    """L-BFGS in x, ``steps`` (200) in all; ``sigma`` is the prior's own final noise level."""
    steps = steps or 200
    multiple = getattr(prior, "multiple", 1)
    x = pad_to_multiple(problem.first_guess() if init is None else init, multiple)
    weight = 0.5 / problem.noise_level().square()
    levels: list[float | None] = [None]
    if prior.noise_range is not None:
        low, high = prior.noise_range
        first = min(max(_FIRST_SIGMA, sigma), high)
        levels = torch.logspace(_log10(first), _log10(max(sigma, low)), _STAGES).tolist()

    trace: list[dict] = []
    evaluations = torch.zeros(problem.batch, dtype=torch.long)
    per_stage = max(1, steps // len(levels))
    for stage, level in enumerate(levels):
        density = prior if level is None else prior.at(level)

        def objective(x: Tensor, idx: Tensor, density=density) -> Tensor:
            return weight[idx] * problem.misfit(problem.crop(x), idx) - density.log_prob(x)

        def watch(state, stage=stage, level=level) -> None:
            trace.append({"sigma": level, "value": state.value.tolist(), "active": state.active})
            done = stage * per_stage + min(state.rounds, per_stage)
            problem.progress(done, steps, f"{state.active} running")

        result = lbfgs.minimize(objective, x, max_iter=per_stage, tol_change=1e-7, callback=watch)
        x = result.z
        evaluations += result.n_evals
    with torch.no_grad():
        log_prob, z = density.log_prob(x), density.encode(x)
    failed = torch.tensor([s.startswith("failed") for s in result.status])
    return Reconstruction(
        x=problem.crop(x),
        z=z,
        log_prob=log_prob,
        residual=problem.residual(problem.crop(x)),
        converged=~failed,
        status=result.status,
        evaluations=evaluations,
        method="map",
        trace=trace,
    )


def _log10(v: float) -> float:
    return float(torch.tensor(v, dtype=torch.float64).log10())
