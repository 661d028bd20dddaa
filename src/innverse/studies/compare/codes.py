"""From images to latents and back: which images a model can make, and how long its code is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...physics import Denoising
from ...solvers import solve
from .contestants import BATCH, Contestant


def closest(contestant: Contestant, x: Tensor, restarts: int, steps: int, seed: int = 0) -> Tensor:
    """The image in the range of the model that is closest to each of x (B, C, H, W).

    For an INN it is decode(encode(x)). For others min_z ||G(z) - x||^2 is searched by
    `innverse.solve` with the identity as operator: from z = 0, from ``restarts`` - 1 random
    latents and, for a VAE, from what its encoder says; for every image the best end counts. An
    injective flow projects, from its code.
    """
    if contestant.label == "INN":
        return contestant.decode(contestant.encode(x))
    if contestant.label == "Injective":
        parts = [
            contestant.model.project(p.to(contestant.device), steps)[0] for p in x.split(BATCH)
        ]
        return torch.cat(parts).detach().cpu()
    starts: list[dict[str, Any]] = [{"start": "zero"}]
    if restarts > 1:
        starts.append({"start": "random", "restarts": restarts - 1, "seed": seed})
    if contestant.encodes:
        starts.append({"init": contestant.encode(x).to(contestant.device)})
    y = x.to(contestant.device)
    best = torch.full_like(x, torch.inf)
    for start in starts:
        found = solve(y, Denoising(), contestant.prior(), "latent", steps=steps, **start).x.cpu()
        best = torch.where(_misfit(found, x) < _misfit(best, x), found, best)
    return best


def _misfit(found: Tensor, x: Tensor) -> Tensor:
    return (found - x).square().mean((1, 2, 3), keepdim=True)


def latent_error(contestant: Contestant, n: int, seed: int = 0) -> float | None:
    """|| encode(decode(z)) - z || / ||z|| of ``n`` standard normal z; None without an encoder."""
    if not contestant.encodes:
        return None
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn((n, *contestant.model.latent_shape), generator=generator)
    again = contestant.encode(contestant.decode(z))
    return float((again - z).norm() / z.norm())


def keep_largest(contestant: Contestant, x: Tensor, k: int) -> Tensor:
    """The images that the ``k`` largest coordinates of their latents give, the others set to 0."""
    z = contestant.encode(x)
    flat = z.flatten(1)
    kept = flat.abs().topk(min(k, flat.shape[1]), 1).indices
    return contestant.decode(
        torch.zeros_like(flat).scatter(1, kept, flat.gather(1, kept)).view_as(z)
    )
