"""How probable held-out images are: exactly, as a bound, or not at all."""

from __future__ import annotations

import torch
from torch import Tensor

from ...data import dequantize
from ...metrics import bits_per_dim
from .contestants import BATCH, Contestant


def dequantized(images: Tensor, seed: int = 0) -> Tensor:
    """uint8 images spread over their 256 levels by uniform noise, on [0, 1)."""
    return dequantize(images, torch.Generator().manual_seed(seed))


def noised(images: Tensor, sigma: float, seed: int = 0) -> Tensor:
    """uint8 images on [0, 1] plus N(0, sigma^2): what a noise-conditional flow is a density of."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return images.float() / 255 + sigma * noise


def bits(contestant: Contestant, x: Tensor, samples: int = 1, seed: int = 0) -> Tensor | None:
    """Bits per dimension of each image x (B, C, H, W), on the scale of 8 bits; None for a GAN, and for
    an injective flow, whose density is one on a manifold.

    Exact for the INN. For the VAE an upper bound, from ``samples`` importance-weighted draws an
    image (Burda et al. 2016). Both are -log2 p(x) / n + 8 of the same real numbers x.
    """
    model, device = contestant.model, contestant.device
    generator = torch.Generator(device).manual_seed(seed)

    def log_prob(part: Tensor) -> Tensor:
        if contestant.label == "VAE":
            return model.log_prob_bound(part, samples, generator=generator)
        return contestant.prior().log_prob(part)

    if contestant.label in ("GAN", "Injective"):
        return None
    with torch.no_grad():
        found = torch.cat([log_prob(part.to(device)).cpu() for part in x.split(BATCH)])
    return bits_per_dim(found, x[0].numel())
