"""Denoising needs no iterations: the flow's score gives the posterior mean in one step."""

from __future__ import annotations

import torch

from .problem import Problem
from .reconstruction import Reconstruction
from .tiling import code_untiled, denoise_tiled


def knows_posterior_mean(problem: Problem, prior) -> bool:
    """Whether y is an image plus Gaussian noise of levels this prior was trained on."""
    from ..physics import Denoising

    if not isinstance(problem.physics, Denoising) or problem.noise is None:
        return False
    low, high = prior.noise_range
    noise = problem.noise_level()
    return bool(((noise >= low) & (noise <= high)).all())


def solve_denoising(problem: Problem, prior, *, shifts: int, tile) -> Reconstruction:
    """E[x | y] = y + s^2 grad log p(y; s), averaged over ``shifts`` views (Tweedie)."""
    noise = problem.noise_level()

    def report(done: int, pieces: int) -> None:
        problem.progress(done, pieces, "posterior mean")

    x = denoise_tiled(prior, problem.y, noise, range(shifts), tile, report)
    finite = torch.isfinite(x).flatten(1).all(1)
    z, log_prob = code_untiled(prior, x, noise.expand(len(x)), tile)
    return Reconstruction(
        x=torch.where(finite.view(-1, 1, 1, 1), x, problem.y),
        z=z,
        log_prob=log_prob,
        residual=problem.residual(x),
        converged=finite,
        status=["converged" if ok else "failed: the denoiser gave NaN" for ok in finite.tolist()],
        evaluations=torch.full((problem.batch,), shifts),
        method="pnp",
    )
