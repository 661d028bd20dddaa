"""What a measurement says about the pixels of an image: how many numbers, which pixels, how far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..physics import LinearPhysics
from .problem import Problem

_FAR = 16  # pixels; beyond it a measurement is no local average


@dataclass(frozen=True)
class Coverage:
    """Of the operator of a problem, found by applying it to random images.

    Attributes:
        measured: entries of y that depend on the image at all, of each item (B,).
        ratio: the fewest of them, over the numbers of an image: 1 for denoising, m/n for
            compressed sensing.
        missing: the largest share of the pixels that no measurement depends on.
        gap: pixels from the most remote of those to the nearest that is measured (of chessboard
            moves): 0 without a gap; half the side of a square hole.
        global_: whether single measurements depend on the whole image (projections, Fourier
            coefficients), so that an image computed from the data alone shows little.
    """

    measured: Tensor
    ratio: float
    missing: float
    gap: int
    global_: bool

    @property
    def holes(self) -> bool:
        return self.gap > 0


@torch.no_grad()
def coverage(problem: Problem) -> Coverage:
    """Look at the operator of ``problem``, or its derivative at grey: three applications."""
    x, physics = _random(problem), problem.physics.at_grey(problem.y)
    y = physics.A(x)
    measured = (y != 0).flatten(1).sum(1)
    # an entry of A^T A x is exactly zero where a column of A is (and else only by accident)
    seen = (physics.A_adjoint(y) != 0).any(1, keepdim=True)
    return Coverage(
        measured=measured,
        ratio=float(measured.min()) / x[0].numel(),
        missing=1 - float(seen.flatten(1).double().mean(1).min()),
        gap=_gap(seen),
        global_=_is_global(problem, physics, seen),
    )


def as_given(problem: Problem) -> tuple[Tensor, LinearPhysics]:
    """y and A as the user has them, should the problem have divided something out of both."""
    return problem.given


def measured_values(problem: Problem) -> Tensor:
    """How many entries of y depend on the image, of each item (B,)."""
    with torch.no_grad():
        return (problem.physics.A(_random(problem)) != 0).flatten(1).sum(1)


def _random(problem: Problem) -> Tensor:
    draw = torch.randn((problem.batch, *problem.shape), generator=torch.Generator().manual_seed(0))
    return draw.to(problem.y.real)


def _gap(seen: Tensor) -> int:
    grown, steps = seen.float(), 0
    if not bool(seen.flatten(1).any(1).all()):
        return max(seen.shape[-2:])  # of some item nothing is measured
    while not bool((grown > 0).all()):
        grown, steps = F.max_pool2d(grown, 3, 1, 1), steps + 1
    return steps


def _is_global(problem: Problem, physics: LinearPhysics, seen: Tensor) -> bool:
    """Whether A^T A spreads a bright pixel over the image."""
    _, height, width = problem.shape
    inside = seen.flatten(1).all(0).view(height, width).nonzero()
    if not len(inside):
        return False
    middle = torch.tensor([height // 2, width // 2], device=inside.device)
    row, column = inside[(inside - middle).square().sum(1).argmin()].tolist()
    x = torch.zeros_like(_random(problem))
    x[:, 0, row, column] = 1
    energy = physics.A_normal(x).square().sum(1)
    reach = min(_FAR, height // 4), min(_FAR, width // 4)
    near = energy[
        :,
        max(0, row - reach[0]) : row + reach[0] + 1,
        max(0, column - reach[1]) : column + reach[1] + 1,
    ]
    inner, total = near.flatten(1).sum(1), energy.flatten(1).sum(1)
    return bool((inner < 0.9 * total).any())
