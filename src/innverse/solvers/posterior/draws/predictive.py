"""Do the data look like data of the draws? Posterior predictive checks (Gelman, Meng & Stern 1996)."""

from __future__ import annotations

import torch
from torch import Tensor

from ....errors import UsageError
from ....physics import LinearPhysics, PoissonNoise
from ....physics.noise import NoiseModel, NoNoise
from ....seeding import stream

__all__ = ["predictive_p_value"]


@torch.no_grad()
def predictive_p_value(
    draws: Tensor, y: Tensor, physics: LinearPhysics, noise: NoiseModel, seed: int = 0
) -> Tensor:
    """P(T(y', x) >= T(y, x) | y) of each item (B,), with y' measured anew from the draw x.

    T is the misfit in units of the noise, the sum of (y - E[y | x])^2 / Var(y | x). ``draws`` are
    (S, B, C, H, W), and the answer a share of S.

    Raises:
        UsageError: the noise level is not known.
    """
    if isinstance(noise, NoNoise):
        raise UsageError("a predictive check needs the noise level: solve with noise=")
    g = stream(seed, 0, "predictive")
    larger = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    for x in draws:
        clean = physics.A(x)
        expected = clean.clamp_min(0) if isinstance(noise, PoissonNoise) else clean
        variance = noise.std(clean).square().clamp_min(torch.finfo(clean.dtype).tiny)
        again = physics.keep_measured(noise(clean, g))
        misfit, of_draw = (
            ((data - expected).square() / variance).flatten(1).sum(1) for data in (y, again)
        )
        larger += of_draw >= misfit
    return larger / len(draws)
