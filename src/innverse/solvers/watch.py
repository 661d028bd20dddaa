"""What a search tells while it runs: the trace of a `Reconstruction`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .problem import Problem


class Watch:
    """The trace of one solver: per round of evaluations, what holds at each item's best point.

    The objective hands over what it computes anyhow (`saw`); the optimiser's callback adds a row
    (`step`). A row has ``value``, ``residual`` (||A x - y|| / ||y||), ``evaluations``, and where
    the objective gave them ``z_norm`` (||z|| / sqrt(n)) and ``log_prob``: one number per item.
    """

    def __init__(self, problem: Problem, total: int):
        self.problem, self.total, self.rounds = problem, total, 0
        self.trace: list[dict[str, Any]] = []
        self.evaluations = torch.zeros(problem.batch, dtype=torch.long)
        self._scale = problem.y.flatten(1).norm(dim=1).clamp_min(1e-12)
        self.restart()

    def restart(self) -> None:
        """The objective changes: what was best under the old one no longer counts."""
        self._best = torch.full_like(self._scale, math.inf)
        self._seen: dict[str, Tensor] = {}

    @torch.no_grad()
    def saw(self, idx: Tensor, value: Tensor, misfit: Tensor, **more: Tensor) -> None:
        """The objective and ||A x - y||^2 of the items ``idx``; ``more`` is kept as it is."""
        self.evaluations[idx.cpu()] += 1
        better = value < self._best[idx]
        items = idx[better]
        self._best[items] = value[better].to(self._best)
        for name, found in ({"residual": misfit.sqrt() / self._scale[idx]} | more).items():
            column = self._seen.setdefault(name, torch.full_like(self._scale, math.nan))
            column[items] = found[better].to(column)

    @property
    def record(self) -> dict[str, Any]:
        """What a `Reconstruction` keeps of it."""
        return {"evaluations": self.evaluations, "trace": self.trace}

    def step(self, state, **more) -> None:
        """Add a row; ``state`` is the `Round` of an optimiser."""
        self.rounds += 1
        row = {name: column.tolist() for name, column in self._seen.items()}
        row["evaluations"] = self.evaluations.tolist()
        self.trace.append({"value": state.value.tolist()} | row | more)
        self.problem.progress(min(self.rounds, self.total), self.total, f"{state.active} running")
