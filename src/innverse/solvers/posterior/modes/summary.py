"""From the draws of several chains to a reconstruction and a verdict."""

from __future__ import annotations

import torch
from torch import Tensor

from ....flows.padding import pad_to_multiple
from ....protocols import multiple_of
from ...problem import Problem
from ...reconstruction import Reconstruction
from ..verdict import agreement, verdict


def summary(problem: Problem, density, draws: Tensor, method: str, diagnostics: dict, **more):
    """Mean, spread and diagnostics of draws (B, chains, n, C, H, W).

    ``more`` are other attributes of the `Reconstruction`.
    """
    r, bulk, tail = (torch.stack(v) for v in zip(*map(agreement, draws), strict=True))
    known = {"r_hat": r, "ess_bulk": bulk, "ess_tail": tail}
    samples = draws.flatten(1, 2).transpose(0, 1)
    x = samples.mean(0)
    status = [verdict(r, size) for r, size in zip(known["r_hat"], known["ess_bulk"], strict=True)]
    with torch.no_grad():
        log_prob = density.log_prob(pad_to_multiple(x, multiple_of(density)))
    return Reconstruction.of(
        problem,
        x,
        method,
        log_prob=log_prob,
        converged=torch.tensor([s == "converged" for s in status]),
        status=status,
        std=samples.std(0),
        samples=samples,
        diagnostics=known | diagnostics,
        **more,
    )
