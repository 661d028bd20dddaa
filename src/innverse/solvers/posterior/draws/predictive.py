"""Do the data look like data of the draws?"""

from __future__ import annotations

import torch
from torch import Tensor

from ....errors import UsageError
from ....metrics.calibration import predictive_check
from ....physics import LinearPhysics, PoissonNoise
from ....physics.noise import NoiseModel, NoNoise
from ....seeding import stream


@torch.no_grad()
def check(
    draws: Tensor, y: Tensor, physics: LinearPhysics, noise: NoiseModel, seed: int = 0
) -> Tensor:
    """`predictive_check` (B,) of draws (S, B, C, H, W) by the misfit in units of the noise, the sum of
    (y - E[y | x])^2 / Var(y | x).

    Raises:
        UsageError: the noise level is not known.
    """
    if isinstance(noise, NoNoise):
        raise UsageError("a predictive check needs the noise level: solve with noise=")

    def measure(x: Tensor) -> Tensor:
        return physics.keep_measured(noise(physics.A(x)))

    def misfit(data: Tensor, x: Tensor) -> Tensor:
        clean = physics.A(x)
        expected = clean.clamp_min(0) if isinstance(noise, PoissonNoise) else clean
        variance = noise.std(clean).square().clamp_min(torch.finfo(clean.dtype).tiny)
        return ((data - expected).square() / variance).flatten(1).sum(1)

    return predictive_check(draws, y, measure, misfit, generator=stream(seed, 0, "predictive"))
