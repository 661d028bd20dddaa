"""Denoising needs no iterations: the flow's score gives the posterior mean in one step.

Noise that differs from pixel to pixel is no level of the prior. There each pixel takes the answer
for its own level, interpolated between levels that about double, as if the noise around it were alike:
exact for one level, and good where levels vary more slowly than what the denoiser looks at.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..physics import Denoising, Whitened
from ..protocols import noise_range
from ..shapes import wide
from .problem import Problem
from .reconstruction import Reconstruction
from .tiling import code_untiled, denoise_tiled


def knows_posterior_mean(problem: Problem, prior: object) -> bool:
    """Whether y is an image plus noise of levels this prior was trained on.

    Where they differ within an item, lower ones count too; see `_by_level`.
    """
    (_, physics), span = problem.given, noise_range(prior)
    if not isinstance(physics, Denoising) or problem.noise is None or problem.scale != 1:
        return False
    if span is None:
        return False
    low, high = span
    if isinstance(problem.physics, Whitened):
        return bool((_deviation(problem, problem.physics) <= high).all())
    noise = problem.noise_level()
    return bool(((noise >= low) & (noise <= high)).all())


def solve_denoising(problem: Problem, prior, *, views: int, tile) -> Reconstruction:
    """E[x | y] = y + s^2 grad log p(y; s), averaged over ``views`` views (Tweedie)."""
    y, _ = problem.given
    noise = problem.noise_level()

    def report(done: int, pieces: int) -> None:
        problem.progress(done, pieces, "posterior mean")

    if isinstance(problem.physics, Whitened):
        x, calls = _by_level(problem, problem.physics, prior, y, range(views), tile)
        noise = noise.clamp(*prior.noise_range)
    else:
        x, calls = denoise_tiled(prior, y, noise, range(views), tile, report), 1
    finite = torch.isfinite(x).flatten(1).all(1)
    z, log_prob = code_untiled(prior, x, noise.expand(len(x)), tile)
    found = {"z": z, "log_prob": log_prob, "converged": finite, "residual": problem.residual(x)}
    found["status"] = list(map(ended, finite.tolist()))
    found["evaluations"] = torch.full((problem.batch,), calls * views)
    return Reconstruction.of(problem, torch.where(wide(finite, x), x, y), "pnp", **found)


def ended(finite: bool, calm: bool = True) -> str:
    """How denoising ended, as the status of an item."""
    if not finite:
        return "failed: the denoiser gave NaN"
    return "converged" if calm else "not converged: the last step still changed the image"


def _deviation(problem: Problem, physics: Whitened) -> Tensor:
    """Standard deviation of each pixel; infinite where it was not measured."""
    level = wide(problem.noise_level(), problem.y)
    return level / physics.weight.to(level.dtype)


def _by_level(
    problem: Problem, physics: Whitened, prior, y: Tensor, views, tile
) -> tuple[Tensor, int]:
    """The posterior mean of each pixel at its own level, and the number of levels it took."""
    low, high = prior.noise_range
    std = _deviation(problem, physics).expand(y.shape)
    # the same levels for all items, whatever is solved beside them
    last = math.ceil(math.log2(high / low))
    place = (std.clamp(low, high) / low).log() * (last / math.log(high / low))
    x, calls = torch.zeros_like(y), 0
    for k in range(last + 1):
        weight = (1 - (place - k).abs()).clamp_min(0)
        items = weight.flatten(1).any(1).nonzero().flatten()
        if items.numel():
            level = y.new_full((len(items),), low * (high / low) ** (k / last))
            x[items] += weight[items] * denoise_tiled(prior, y[items], level, views, tile)
            calls += 1
        problem.progress(k + 1, last + 1, "posterior mean")
    # below the lowest level the score of that level serves
    return torch.lerp(y, x, (std / low).clamp_max(1).square()), calls
