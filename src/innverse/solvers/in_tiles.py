"""Any method on pictures of any size: overlapping tiles, each a problem of its own.

The method "pnp" needs none of it, since it tiles only its denoiser (`tiling`). Here the operator is
tiled too, so it must be local. A tile is solved with a margin, of which the outer half is thrown away;
in the inner half neighbours fade into each other, so there is no seam. Memory is that of the picture
and one tile.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..physics.foreign_noise import as_noise
from ..progress import Report, part
from .judge import judge
from .noise_level import estimate_noise
from .problem import Problem
from .reconstruction import Reconstruction
from .scale import checked_range, onto_unit
from .solve import AUTO, solve
from .windows import reach_of, unit_of, window

MARGIN = 32  # pixels of a tile on each side, besides what the operator reaches


_OF_ALL = ("sigma", "of", "approximate")  # diagnostics that are the same for all tiles
_NO_DRAWS = "each tile has draws of its own: only their means and deviations are put together"


def solve_in_tiles(
    y: Tensor,
    physics,
    prior: Any = None,
    method: str = AUTO,
    *,
    side: int = 512,
    noise: Any = None,
    x_range: tuple[float, float] | None = None,
    progress: Report | None = None,
    **given: Any,
) -> Reconstruction:
    """`innverse.solve` tile by tile, for operators whose measurements are local.

    A result has the image, its residual and its status; latents, densities and draws are of tiles, and
    are not kept. Noise that is to be estimated is estimated once, from the whole measurement.

    Args:
        y, physics, prior, method, noise, x_range, given: as of `innverse.solve`.
        side: of the tiles in pixels, without their margins, >= 64.
        progress: called as progress(done, total, note).

    Raises:
        UsageError: an operator that depends on the whole image, or tiles that are too small.

    Example:
        >>> physics = innverse.physics.Inpainting((torch.rand(96, 96) > 0.3).float())
        >>> y = physics(torch.full((1, 1, 96, 96), 0.5))
        >>> solve_in_tiles(y, physics, method="tv", side=64).x.shape
        torch.Size([1, 1, 96, 96])
    """
    if side < 2 * MARGIN:
        raise UsageError(f"side={side}: tiles need at least {2 * MARGIN} pixels")
    if isinstance(prior, str):
        from ..zoo import load

        prior = load(prior)
    estimate = isinstance(noise, str) and noise == AUTO
    problem = Problem.build(y, physics, prior, None if estimate else noise, None, progress)
    y, physics = problem.given
    if estimate:
        low, high = checked_range(x_range) or (0.0, 1.0)
        noise = (high - low) * estimate_noise(onto_unit(problem, (low, high)), prior)[0]
        problem.noise = noise / problem.scale
    if noise is not None:
        physics = physics._copy(noise=as_noise(noise))
    x = torch.zeros(problem.batch, *problem.shape, dtype=y.dtype, device=y.device)
    std = torch.zeros_like(x)
    spans = [_spans(n, side, physics) for n in problem.shape[1:]]
    boxes = list(itertools.product(*spans))
    done = torch.ones(problem.batch, dtype=torch.bool)
    status: list[list[str]] = [[] for _ in range(problem.batch)]
    notes: list[dict[str, None]] = [{} for _ in range(problem.batch)]
    evaluations = torch.zeros(problem.batch, dtype=torch.long)
    seconds, found = 0.0, None
    for k, (down, across) in enumerate(boxes):
        rows, columns = down.reach, across.reach
        here = window(physics, problem.shape, rows, columns)
        told = part(problem.progress, k, k + 1, f"tile {k + 1} of {len(boxes)}", len(boxes))
        found = solve(
            y[..., here.rows, here.columns],
            here.physics,
            prior,
            method,
            progress=told,
            x_range=x_range,
            **given,
        )
        share = down.fade(y)[:, None] * across.fade(y)
        x[..., rows, columns] += share * found.x
        if found.std is not None:
            std[..., rows, columns] += share * found.std
        done &= found.converged.cpu()
        evaluations = torch.maximum(evaluations, found.evaluations.cpu())
        for i, (word, doubts) in enumerate(zip(found.status, found.notes, strict=True)):
            status[i] += [] if bool(found.converged[i]) else [f"tile {k + 1}: {word}"]
            notes[i] |= dict.fromkeys(doubts)
        seconds += found.seconds
    assert found is not None
    result = Reconstruction.of(
        problem, x, found.method,
        converged=done, status=[(row or ["converged"])[0] for row in status], evaluations=evaluations,
    )  # fmt: skip
    judge(problem, result)
    result.notes = [list(row) for row in notes]
    if found.std is not None:
        result.std = std
        result.diagnostics = {k: v for k, v in found.diagnostics.items() if k in _OF_ALL}
        result.notes = [[*row, _NO_DRAWS] for row in result.notes]
    result.reason, result.options, result.noise = found.reason, found.options, found.noise
    result.seconds = seconds
    return result


class _Span:
    """Pixels first..last of a line of n; beyond them a margin, halfway into which the span fades."""

    def __init__(self, first: int, last: int, n: int, margin: int):
        self.first, self.last, self.n, self.margin = first, last, n, margin
        self.reach = slice(max(0, first - margin), min(n, last + margin))

    def fade(self, like: Tensor) -> Tensor:
        """The weight of each pixel of `reach`; those of neighbours add up to 1."""
        t = torch.arange(self.reach.start, self.reach.stop, dtype=like.dtype, device=like.device)
        up = (t + 0.5 - self.first) / self.margin + 0.5
        down = (self.last - t - 0.5) / self.margin + 0.5
        one = torch.ones_like(t)
        rise = one if self.first == 0 else up.clamp(0, 1)
        return rise * (one if self.last == self.n else down.clamp(0, 1))


def _spans(n: int, side: int, physics) -> list[_Span]:
    """Equal spans of at most ``side``, on whole units of the operator."""
    unit = unit_of(physics)
    margin = unit * math.ceil((MARGIN + reach_of(physics)) / unit)
    count = -(-n // max(side, 2 * margin))
    edges = [round(k * n / count / unit) * unit for k in range(count)] + [n]
    return [_Span(a, b, n, margin) for a, b in itertools.pairwise(edges)]
