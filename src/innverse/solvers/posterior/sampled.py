"""What chains have left, of one run or of several, and what is concluded from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...flows.padding import pad_to_multiple
from ...protocols import has_density, multiple_of
from ..problem import Problem
from ..reconstruction import Reconstruction
from .clean import CleanMoments
from .conditioning import condition
from .verdict import judge_chains


@dataclass
class Sampled:
    """Of B items, each with the same number of chains.

    Attributes:
        draws, log_p: (B, chains, n, C, H, W) and (B, chains, n).
        accepted, diverged: sums over the transitions (B, chains), of which there were ``transitions``.
        evaluations: of the gradient (B,).
        curvature, step, time: of the metric and the trajectories (B, 2), (B,), (B,).
        moments: the sums of `CleanMoments`.
        trace, notes: as of a `Reconstruction`.
    """

    draws: Tensor
    log_p: Tensor
    accepted: Tensor
    diverged: Tensor
    transitions: int
    evaluations: Tensor
    curvature: Tensor
    step: Tensor
    time: Tensor
    in_latents: bool
    metric: str
    moments: Tensor | None
    trace: list[dict[str, Any]]
    notes: list[list[str]]

    @classmethod
    def joined(cls, runs: Sequence[Sampled]) -> Sampled:
        """Those of independent runs: chains side by side; what each run learnt, on average."""

        def beside(name: str) -> Tensor:
            return torch.cat([getattr(run, name) for run in runs], 1)

        def average(name: str) -> Tensor:
            return torch.stack([getattr(run, name) for run in runs]).mean(0)

        moments = [run.moments for run in runs if run.moments is not None]
        return cls(
            draws=beside("draws"),
            log_p=beside("log_p"),
            accepted=beside("accepted"),
            diverged=beside("diverged"),
            transitions=runs[0].transitions,
            evaluations=torch.stack([run.evaluations for run in runs]).sum(0),
            curvature=average("curvature"),
            step=average("step"),
            time=average("time"),
            in_latents=all(run.in_latents for run in runs),
            metric=runs[0].metric,
            moments=torch.stack(moments).sum(0) if moments else None,
            trace=runs[0].trace,
            notes=[
                list(dict.fromkeys(text for run in runs for text in run.notes[i]))
                for i in range(len(runs[0].notes))
            ],
        )

    def conclude(
        self, problem: Problem, prior: Any, density: Any, level: float | None
    ) -> Reconstruction:
        """Mean, spread, draws and the verdict; ``density`` is the prior at the ``level`` sampled."""
        chains, transitions = self.draws.shape[1], max(self.transitions, 1)
        accepted, diverged = self.accepted / transitions, self.diverged / transitions
        verdicts = [
            judge_chains(*row)
            for row in zip(self.draws, self.log_p, accepted, diverged, strict=True)
        ]
        samples = self.draws.flatten(1, 2).transpose(0, 1)
        x, std = samples.mean(0), samples.std(0)
        if self.moments is not None and level is not None:
            moments = CleanMoments(level, chains)
            moments.sums = self.moments
            x, std = (v.to(samples) for v in moments.result(len(samples)))
        log_prob = None  # the mean of points of a manifold is none
        if has_density(prior):
            with torch.no_grad():
                log_prob = density.log_prob(pad_to_multiple(x, multiple_of(prior)))
        for row, verdict in zip(self.notes, verdicts, strict=True):
            row += verdict.bad_chains
        status = [v.status for v in verdicts]
        return Reconstruction(
            x=x,
            z=None,
            log_prob=log_prob,
            residual=problem.residual(x),
            converged=torch.tensor([s == "converged" for s in status]),
            status=status,
            evaluations=self.evaluations,
            method="posterior",
            trace=self.trace,
            std=std,
            samples=samples,
            notes=self.notes,
            diagnostics={
                "r_hat": torch.stack([v.r_hat for v in verdicts]),
                "ess_bulk": torch.stack([v.ess_bulk for v in verdicts]),
                "ess_tail": torch.stack([v.ess_tail for v in verdicts]),
                "acceptance": accepted.mean(1),
                "divergences": self.diverged.sum(1).long(),
                "sigma": level,
                "of": "clean" if self.moments is not None or level is None else "noisy",
                "space": "latent" if self.in_latents else "image",
                "metric": self.metric,
                "condition": condition(self.curvature, self.time),
                "curvature": self.curvature,
                "step": self.step,
                "log_p": self.log_p,
            },
        )
