"""The measurements of the protocol: operators and noise by the name of their setting.

As in Asim et al. 2020 the noise is N(0, (0.1 / sqrt(m))^2) on each of the m measurements, so that
its length is about 0.1 whatever m; denoising states its own level.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...physics import (
    Blur,
    CompressedSensing,
    Denoising,
    Downsampling,
    GaussianNoise,
    Inpainting,
    LinearPhysics,
    SubsampledFourier,
    cartesian_mask,
    gaussian_kernel,
)
from .pictures import SHAPE, SIDE

NOISE = 0.1
N = math.prod(SHAPE)


def compressed_sensing(setting: str, seed: int) -> LinearPhysics:
    """``setting`` is m/n."""
    m = max(1, round(float(setting) * N))
    return CompressedSensing(m, SHAPE, seed=seed, noise=NOISE / math.sqrt(m))


def denoising(setting: str, seed: int) -> LinearPhysics:
    """``setting`` is the standard deviation."""
    return Denoising(noise=float(setting), image_shape=SHAPE)


def inpainting(setting: str, seed: int) -> LinearPhysics:
    """``setting`` is "centre" (a square of 30 % is missing), "random" (half) or "scribbles"."""
    mask = _MASKS[setting](torch.Generator().manual_seed(seed))
    return Inpainting(mask, NOISE / math.sqrt(3 * float(mask.sum())), SHAPE)


def blur(setting: str, seed: int) -> LinearPhysics:
    """``setting`` is the width of the Gaussian in pixels."""
    return _noisy(Blur(gaussian_kernel(float(setting)), image_shape=SHAPE))


def superresolution(setting: str, seed: int) -> LinearPhysics:
    """``setting`` is the factor, with the x: "x2"."""
    return _noisy(Downsampling(int(setting.removeprefix("x")), SHAPE))


def fourier(setting: str, seed: int) -> LinearPhysics:
    """``setting`` is the acceleration, with the x: one coil, columns of the Fourier transform."""
    mask = cartesian_mask((SIDE, SIDE), float(setting.removeprefix("x")), 0.08, seed)
    return _noisy(SubsampledFourier(mask, image_shape=SHAPE))


FAMILIES: dict[str, Callable[[str, int], LinearPhysics]] = {
    "compressed_sensing": compressed_sensing,
    "denoising": denoising,
    "inpainting": inpainting,
    "blur": blur,
    "superresolution": superresolution,
    "fourier": fourier,
}


def _noisy(physics: LinearPhysics) -> LinearPhysics:
    probe = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    measured = int((physics.A(probe) != 0).sum())
    physics.noise = GaussianNoise(NOISE / math.sqrt(measured))
    return physics


def _centre(generator: torch.Generator) -> Tensor:
    mask, side = torch.ones(SIDE, SIDE), round(math.sqrt(0.3) * SIDE)
    top = (SIDE - side) // 2
    mask[top : top + side, top : top + side] = 0
    return mask


def _random(generator: torch.Generator) -> Tensor:
    mask = torch.zeros(SIDE * SIDE)
    mask[torch.randperm(SIDE * SIDE, generator=generator)[: SIDE * SIDE // 2]] = 1
    return mask.view(SIDE, SIDE)


def _scribbles(generator: torch.Generator) -> Tensor:
    """Strokes three pixels wide from border to border, until 30 % is covered."""
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    mask = torch.ones(SIDE, SIDE)
    while float(mask.mean()) > 0.7:
        angle, offset = torch.rand(2, generator=generator).tolist()
        turn = math.pi * angle
        across = (x - SIDE / 2) * math.cos(turn) + (y - SIDE / 2) * math.sin(turn)
        along = (y - SIDE / 2) * math.cos(turn) - (x - SIDE / 2) * math.sin(turn)
        bend = 4 * torch.sin(along / 8)
        mask[(across + bend - (offset - 0.5) * SIDE).abs() < 1.5] = 0
    return mask


_MASKS = {"centre": _centre, "random": _random, "scribbles": _scribbles}
