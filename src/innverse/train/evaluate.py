"""Held-out numbers and sample pictures of the averaged model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data import dequantize
from ..seeding import stream
from .losses import Objective, log_uniform, to_bits

if TYPE_CHECKING:
    from .condition import Measurements

__all__ = ["DENOISING_SIGMA", "evaluate", "sample_images"]

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
        batches: (B, C, H, W) uint8 crops.
        noise_range: range of sigma of a noise-conditional flow, or None.
        seed: seed of the evaluation noise.
        measurements: of which a conditional flow is told.

    Returns:
        ``{"bits_per_dim"}`` for a plain flow; for a VAE an upper bound on it from 64 importance
        samples, and the PSNR of reconstructions; for a GAN what its critic says of held-out crops
        and of as many samples; ``{"gap", "psnr"}`` for a noise-conditional one:
        nats/dim above the entropy of the noise, and the Tweedie denoiser's PSNR in dB at
        sigma 25/255, averaged over crops; of a conditional one ``{"gap"}``, see `_conditional`.
    """
    if measurements is not None:
        return _conditional(flow, batches, measurements)
    if hasattr(flow, "log_prob_bound"):
        return _bound(flow, batches, seed)
    if hasattr(flow, "judge"):
        return _verdict(flow, batches, seed)
    objective = Objective(flow)
    device = next(flow.parameters()).device
    nats, psnr, count = 0.0, 0.0, 0
    for i, images in enumerate(batches):
        n = len(images)
        images = images.to(device)
        g = stream(seed, i, "evaluate")
        if noise_range is None:
            noise, sigma = torch.rand(images.shape, generator=g), None
        else:
            # one level per crop, evenly spread, so that the mean has no luck in it
            u = (torch.arange(count, count + n) * 0.618034) % 1
            noise, sigma = torch.randn(images.shape, generator=g), log_uniform(u, *noise_range)
            sigma = sigma.to(device)
        noise = noise.to(device)
        with torch.no_grad():
            nats += objective(images, noise, sigma)[1].item() * n
        if noise_range is not None:
            clean = images.to(noise.dtype) / 255
            denoised = flow.denoise(clean + DENOISING_SIGMA * noise, DENOISING_SIGMA)
            psnr += _psnr(denoised, clean)
        count += n
    if noise_range is None:
        return {"bits_per_dim": to_bits(nats / count)}
    return {"gap": nats / count, "psnr": psnr / count}


@torch.no_grad()
def _conditional(flow, batches: list[Tensor], measurements: Measurements) -> dict[str, float]:
    """-log p(u | y) of held-out crops in nats/dim above the entropy of their noise."""
    objective, device = Objective(flow), next(flow.parameters()).device
    nats, count = 0.0, 0
    for i, images in enumerate(batches):
        noise, sigma, c = measurements.batch(images, i, "evaluate")
        given = (t.to(device) for t in (images, noise, sigma))
        nats += objective(*given, c=c.to(device))[1].item() * len(images)
        count += len(images)
    return {"gap": nats / count}


@torch.no_grad()
def _bound(vae, batches: list[Tensor], seed: int) -> dict[str, float]:
    device = next(vae.parameters()).device
    bits, psnr, count = 0.0, 0.0, 0
    for i, images in enumerate(batches):
        g = stream(seed, i, "evaluate")
        x = dequantize(images, noise=torch.rand(images.shape, generator=g)).to(device)
        bits += vae.bits_per_dim(x, BOUND_SAMPLES, generator=g).sum().item()
        clean = images.to(device) / 255
        psnr += _psnr(vae.reconstruct(clean), clean)
        count += len(images)
    return {"bits_per_dim_bound": bits / count, "reconstruction_psnr": psnr / count}


@torch.no_grad()
def _verdict(gan, batches: list[Tensor], seed: int) -> dict[str, float]:
    device = next(gan.parameters()).device
    real, fake, count = 0.0, 0.0, 0
    for i, images in enumerate(batches):
        samples = gan.sample(len(images), generator=stream(seed, i, "evaluate"))
        real += gan.judge(images.to(device) / 255).sum().item()
        fake += gan.judge(samples).sum().item()
        count += len(images)
    return {"critic_real": real / count, "critic_fake": fake / count}


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
