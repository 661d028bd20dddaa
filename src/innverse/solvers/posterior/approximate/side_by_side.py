"""Several chains for every item, and what their draws amount to."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ....metrics.importance import Importance, importance_weights
from ...problem import Problem
from ...reconstruction import Reconstruction
from ..target import Target


def side_by_side(problem: Problem, density, items: Tensor, noise: Tensor | None = None) -> Target:
    """The target of chains for these ``items`` of the batch, under Gaussian noise of their levels."""
    level = (problem.deviation() if noise is None else noise)[items]
    return Target(density, problem.physics.select(items), problem.y[items], level, problem.crop)


def repeated(problem: Problem, n: int) -> Tensor:
    """Every item n times: 0 0 0 1 1 1 ..."""
    return torch.arange(problem.batch, device=problem.y.device).repeat_interleave(n)


def weighed(log_target: Tensor, log_q: Tensor) -> Importance:
    """Importance weights of draws of q (S,); none of any worth where nothing is finite."""
    usable = log_target.isfinite() & log_q.isfinite()
    if not bool(usable.any()):
        return Importance(log_q.new_zeros(len(log_q)), 0.0, math.inf, -math.inf)
    return importance_weights(
        torch.where(usable, log_target, -math.inf), torch.where(usable, log_q, 0)
    )


def summary(
    problem: Problem, draws: Tensor, method: str, approximate: str, **more
) -> Reconstruction:
    """The `Reconstruction` of independent draws (S, B, C, H, W); ``approximate`` says why they are no
    exact ones."""
    more["diagnostics"] = {"approximate": approximate} | more.get("diagnostics", {})
    usual: dict[str, Any] = {"x": draws.mean(0), "std": draws.std(0), "samples": draws}
    usual["status"] = [f"approximate: {approximate}"] * problem.batch
    usual["notes"] = [[f"the draws are approximate: {approximate}"] for _ in range(problem.batch)]
    return Reconstruction.of(problem, method=method, **(usual | more))
