"""One cut-out of the demonstration with its error bar: exact draws of the posterior, live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...metrics import psnr
from ...physics import Inpainting
from ...progress import Report
from ...restoration.error_bars import LEVEL, describe, percent
from ...solvers import Reconstruction, solve
from ..pictures import crop, photograph
from .problems import TABLE

__all__ = ["ErrorBar", "sample_cut_out"]

CUT_OUT = TABLE["error_bar"]


@dataclass
class ErrorBar:
    """Draws (S, C, H, W) given a damaged picture whose truth is known; images (1, C, H, W).

    ``told`` says in a few numbers whether to believe them.
    """

    truth: Tensor
    y: Tensor
    result: Reconstruction
    draws: Tensor
    told: dict[str, Any]

    @property
    def converged(self) -> bool:
        return bool(self.result.converged.all())

    def as_json(self) -> dict[str, Any]:
        r = self.result
        return {
            "photograph": CUT_OUT["photograph"],
            "size": list(self.truth.shape[-2:]),
            "method": r.method,
            "psnr": float(psnr(r.x, self.truth)),
            "converged": self.converged,
            "status": r.status[0],
            "evaluations": int(r.evaluations.max()),
            "seconds": r.seconds,
        } | self.told

    def verdict(self) -> str:
        """In one or two sentences, what the error bar promised and what it kept."""
        held = self.told["coverage"]["u" if "u" in self.told["coverage"] else "x"][percent(LEVEL)]
        words = (
            f"Intervals of {percent(LEVEL)} hold {100 * held:.0f} % of the true pixels "
            f"({self.told['ess_bulk']['median']:.0f} effective draws in {self.result.seconds:.0f} s)."
        )
        return words if self.converged else f"{words} But: {self.result.status[0]}."


def sample_cut_out(
    prior, device: torch.device, seed: int = 0, scale: int = 1, progress: Report | None = None
) -> ErrorBar:
    """Half of the pixels of the cut-out and noise, and draws of what the whole may be; ``scale`` = 2
    halves its sides."""
    generator = torch.Generator().manual_seed(seed)
    side = CUT_OUT["side"] // scale
    picture = photograph(CUT_OUT["photograph"], prior.shape[0])
    truth = crop(picture, tuple(CUT_OUT["region"]), side)[None]
    physics = Inpainting.random(truth.shape[1:], CUT_OUT["keep"], generator, CUT_OUT["noise"])
    y = physics(truth, generator).to(device)
    result = solve(
        y,
        physics.to(device),
        prior,
        "posterior",
        seed=seed,
        progress=progress,
        **CUT_OUT["options"],
    )
    truth, draws = truth.to(device), result.by_chain.flatten(0, 1)
    told = describe(result, slice(None), draws, draws.std(0), truth.cpu())
    return ErrorBar(truth, y, result, draws[:, 0], told)
