"""Whether a result may be called converged: the same rule for every method.

A method knows when its iteration came to rest; that says nothing of the data. Here its word counts
only if everything it returns is finite and, where the noise is known, its residual is what noise
leaves: of m values that were measured, ||(A x - y) / sigma||^2 / m is chi-square around 1 for the
true image, and smaller for one that was fitted to y.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..shapes import wide
from .coverage import measured_values
from .problem import Problem
from .reconstruction import Reconstruction

# A prior that is not quite true pulls an image away from the data: the residual may be so many
# times the noise. Methods that minimise a penalised misfit leave up to 1.3 on photographs.
SLACK = 1.5


@torch.no_grad()
def judge(problem: Problem, result: Reconstruction, slack: float = SLACK) -> None:
    """Correct ``converged`` and ``status`` of a result, and set ``noise_ratio``.

    ``slack`` is how many times the noise a residual may be, besides the fluctuation of chance.
    """
    result.converged = result.converged.to(result.x.device).clone()
    broken = {
        "the image holds NaN or Inf": _broken(result.x, problem.batch),
        "the residual is NaN or Inf": _broken(result.residual, problem.batch),
        "its latent holds NaN or Inf": _broken(result.z, problem.batch),
        "its log-density is NaN or Inf": _broken(result.log_prob, problem.batch),
    }
    ratio = result.noise_ratio = noise_ratio(problem, result.x)
    beyond = {}  # {item: how many times the noise}
    if ratio is not None:
        limit = slack * _chance(measured_values(problem))
        beyond = {i: r for i, r in enumerate(ratio.tolist()) if not r <= float(limit[i])}
    for i in range(problem.batch):
        reason = next((words for words, which in broken.items() if bool(which[i])), None)
        if reason is not None:
            if not result.status[i].startswith("failed"):
                result.status[i] = f"failed: {reason}"
            result.converged[i] = False
        elif bool(result.converged[i]) and i in beyond:
            result.converged[i] = False
            times = f"{beyond[i]:.3g} times the noise"
            words = "is the operator what happened, and the noise as large?"
            result.status[i] = (
                f"not converged: the residual is {times}{_detail(result.status[i])}; {words}"
            )
        elif not result.converged[i] and result.status[i].startswith("converged"):
            part = f"{float(result.residual[i]):.2g} of the measurement"
            result.status[i] = f"not converged: the residual is {part}{_detail(result.status[i])}"


def _detail(status: str) -> str:
    """What a method says beside that it has converged."""
    more = status.removeprefix("converged").strip(" :;,()")
    return f" ({more})" if more else ""


@torch.no_grad()
def noise_ratio(problem: Problem, x: Tensor) -> Tensor | None:
    """Root mean square of (A x - y) / sigma over what is measured (B,); None if noise is unknown.

    Noise below what solvers resolve (`NOISELESS`) counts as that much.
    """
    if problem.noise is None:
        return None
    sigma = wide(problem.noise_level(), problem.y)
    off = (problem.physics.A(x) - problem.y).abs() / sigma
    count = measured_values(problem).clamp_min(1)
    return (off.flatten(1).square().sum(1) / count).sqrt()


def _chance(count: Tensor) -> Tensor:
    """How many times the noise a residual of ``count`` values is at most: four standard deviations
    of the chi-square distribution."""
    return (1 + 4 * math.sqrt(2) / count.clamp_min(1).sqrt()).sqrt()


def _broken(value: Tensor | None, batch: int) -> Tensor:
    if value is None:
        return torch.zeros(batch, dtype=torch.bool)
    return ~torch.isfinite(value).flatten(1).all(1) if value.dim() > 1 else ~value.isfinite()
