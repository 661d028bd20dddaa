"""Held-out numbers and sample pictures of the averaged model."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data import as_unit, dequantize
from ..data.crops import n_levels
from ..seeding import stream
from .losses import Objective, log_uniform, to_bits

if TYPE_CHECKING:
    from .condition import Measurements

DENOISING_SIGMA = 25 / 255
"""The field's usual noise level for comparing denoisers."""

BOUND_SAMPLES = 64
"""Importance samples of the likelihood bound of a VAE."""


def evaluate(
    flow,
    batches: list[Tensor],
    noise_range: tuple[float, float] | None,
    seed: int,
    measurements: Measurements | None = None,
) -> dict[str, float]:
    """Numbers on held-out crops, the same noise every time.

    Args:
        flow: the flow, in eval mode.
        batches: (B, C, H, W) uint8 or uint16 crops.
        noise_range: range of sigma of a noise-conditional flow, or None.
        seed: seed of the evaluation noise.
        measurements: of which a conditional flow is told.

    Returns:
        ``{"bits_per_dim"}`` for a plain flow; for a VAE an upper bound on it from 64 importance
        samples, and the PSNR of reconstructions; for an injective flow that PSNR, and nats of the code
        for each of its numbers, without the volume of the manifold; for a GAN what its critic says of
        held-out crops
        and of as many samples; ``{"gap", "psnr"}`` for a noise-conditional one:
        nats/dim above the entropy of the noise, and the Tweedie denoiser's PSNR in dB at
        sigma 25/255, averaged over crops; of a conditional one ``{"gap"}``, see `_conditional`.
    """
    measure = partial(_density, noise_range=noise_range)
    if measurements is not None:
        measure = partial(_conditional, measurements=measurements)
    elif hasattr(flow, "log_prob_bound"):
        measure = _bound
    elif hasattr(flow, "judge"):
        measure = _verdict
    elif hasattr(flow, "project"):
        measure = _manifold
    device, sums, count = next(flow.parameters()).device, Counter(), 0
    for i, images in enumerate(batches):
        generator = stream(seed, i, "evaluate")
        sums.update(measure(flow, images.to(device), generator, count))
        count += len(images)
    return {key: value / count for key, value in sums.items()}


def _density(
    flow, images: Tensor, g: torch.Generator, before: int, noise_range
) -> dict[str, float]:
    """Sums over a batch; ``before`` is how many images came before it."""
    n = len(images)
    if noise_range is None:
        noise, sigma = torch.rand(images.shape, generator=g).to(images.device), None
    else:
        # one level per crop, evenly spread, so that the mean has no luck in it
        u = (torch.arange(before, before + n) * 0.618034) % 1
        noise = torch.randn(images.shape, generator=g).to(images.device)
        sigma = log_uniform(u, *noise_range).to(images.device)
    with torch.no_grad():
        nats = Objective(flow)(images, noise, sigma)[1].item()
    if noise_range is None:
        return {"bits_per_dim": n * to_bits(nats)}
    clean = as_unit(images)
    denoised = flow.denoise(clean + DENOISING_SIGMA * noise, DENOISING_SIGMA)
    return {"gap": n * nats, "psnr": _psnr(denoised, clean)}


@torch.no_grad()
def _conditional(
    flow, images: Tensor, g: torch.Generator, before: int, measurements: Measurements
) -> dict[str, float]:
    """-log p(u | y) of held-out crops in nats/dim above the entropy of their noise."""
    noise, sigma, c = (
        t.to(images.device) for t in measurements.batch(images.cpu(), before, "evaluate")
    )
    return {"gap": len(images) * Objective(flow)(images, noise, sigma, c=c)[1].item()}


@torch.no_grad()
def _bound(vae, images: Tensor, g: torch.Generator, before: int) -> dict[str, float]:
    noise = torch.rand(images.shape, generator=g).to(images.device)
    x = dequantize(images.float(), noise=noise, levels=n_levels(images))
    bits = vae.bits_per_dim(x, BOUND_SAMPLES, generator=g).sum().item()
    clean = as_unit(images)
    return {"bits_per_dim_bound": bits, "reconstruction_psnr": _psnr(vae.reconstruct(clean), clean)}


@torch.no_grad()
def _verdict(gan, images: Tensor, g: torch.Generator, before: int) -> dict[str, float]:
    real, fake = gan.judge(as_unit(images)), gan.judge(gan.sample(len(images), generator=g))
    return {"critic_real": real.sum().item(), "critic_fake": fake.sum().item()}


@torch.no_grad()
def _manifold(flow, images: Tensor, g: torch.Generator, before: int) -> dict[str, float]:
    clean = images / 255
    on_it, _ = flow.project(clean)
    return {
        "reconstruction_psnr": _psnr(on_it, clean),
        "code_nats": flow.code_nats(clean).sum().item(),
    }


def _psnr(x: Tensor, clean: Tensor) -> float:
    """Sum of the PSNRs of a batch, in dB."""
    mse = (x.clamp(0, 1) - clean).square().flatten(1).mean(1)
    return (-10 * torch.log10(mse)).sum().item()


def sample_images(
    flow,
    noise_range: tuple[float, float] | None,
    seed: int,
    n: int = 16,
    c: Tensor | None = None,
) -> Tensor:
    """(n, C, H, W) samples in [0, 1], from the same latents every time; c is their condition.

    A noise-conditional flow is sampled at its lowest noise level. NaN pixels come out black.
    """
    device = next(flow.parameters()).device
    g = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        if noise_range is not None:
            c = torch.full((n, 1), noise_range[0], device=device)
        x = (flow if c is None else flow.at(c)).sample(n, generator=g)
    x = x if math.isfinite(x.sum().item()) else x.nan_to_num(0, 1, 0)
    return x.clamp(0, 1).cpu()
