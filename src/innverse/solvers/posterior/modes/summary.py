"""From the draws of several chains to a reconstruction and a verdict."""

from __future__ import annotations

import torch
from torch import Tensor

from ....flows.padding import pad_to_multiple
from ....metrics.chains import effective_size, effective_size_of_tails, r_hat
from ....protocols import multiple_of
from ...problem import Problem
from ...reconstruction import Reconstruction
from ..verdict import verdict


def summary(problem: Problem, density, draws: Tensor, method: str, diagnostics: dict, **more):
    """Mean, spread and diagnostics of draws (B, chains, n, C, H, W).

    ``more`` are other attributes of the `Reconstruction`.
    """
    known = {
        "r_hat": torch.stack([r_hat(item) for item in draws]),
        "ess_bulk": torch.stack([effective_size(item) for item in draws]),
        "ess_tail": torch.stack([effective_size_of_tails(item) for item in draws]),
    }
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
