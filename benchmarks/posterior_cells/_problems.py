"""Priors, operators and noise of the proofs, all small enough for thousands of replicates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

import innverse
from innverse import physics
from innverse.metrics.calibration import haar
from innverse.physics.noise import GaussianNoise, NoiseModel, PoissonNoise


@dataclass(frozen=True)
class Case:
    """A prior at its level ``sigma``, and the noise ``s`` of what is measured."""

    name: str
    size: int
    sigma: float
    s: float

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.size, self.size

    def prior(self, work: Path):
        return (
            _digits(work.parent / "digits") if self.name == "digits" else innverse.load(self.name)
        )


DIGITS = Case("digits", 8, 0.1, 0.1)
NATURAL = Case("natural-gray", 16, 0.02, 0.05)
CASES = (DIGITS, NATURAL)
OPERATORS = ("denoising", "inpainting", "blur", "compressed_sensing", "fourier")
NOISES = ("gaussian", "per_pixel", "poisson")


@cache
def _digits(folder: Path):
    """A noise-conditional prior of scikit-learn's digits (8x8), trained in two minutes and kept."""
    if not folder.exists():
        from innverse.data.sources import open_images

        x = open_images("digits").stack().float() / 255
        torch.manual_seed(0)
        options = {"noise": (0.05, 0.4), "levels": 2, "steps": 4, "hidden": 32}
        flow = innverse.flows.build("glow", (1, 8, 8), **options)
        flow.fit(x, max_epochs=60, batch_size=64, seed=0, progress=False)
        flow.save_pretrained(folder)
    return innverse.load(folder)


def operator(name: str, case: Case):
    shape = case.shape
    g = torch.Generator().manual_seed(0)
    n = case.size**2
    return {
        "denoising": lambda: physics.Denoising(),
        "inpainting": lambda: physics.Inpainting.random(shape, 0.5, g),
        "blur": lambda: physics.Blur(physics.gaussian_kernel(1.0)),
        "compressed_sensing": lambda: physics.CompressedSensing(3 * n // 10, shape, generator=g),
        "fourier": lambda: physics.SubsampledFourier(
            physics.cartesian_mask(shape[1:], 2.0), image_shape=shape
        ),
    }[name]()


def noise(name: str, case: Case, like: Tensor) -> NoiseModel:
    """``like``: a measurement (1, ...)."""
    if name == "poisson":
        return PoissonNoise(4 * case.s**2)  # the deviation s at an intensity of 1/4
    if name == "gaussian":
        return GaussianNoise(case.s)
    g = torch.Generator().manual_seed(1)
    spread = torch.rand(like.shape, generator=g)
    return GaussianNoise(case.s * 4 ** (spread - 0.5))  # half to twice as much


def simulate(case: Case, density, op, n: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """n pictures of the prior, and their measurements."""
    u = density.sample(n, size=case.shape[1:], generator=g)
    return u, op(u, g)


def quantities(density, log_likelihood: Callable[[Tensor], Tensor]) -> dict[str, Callable]:
    """What is ranked: images (N, 1, H, W) -> (N,)."""

    def pixel(u):
        return u[:, 0, u.shape[2] // 4, u.shape[3] // 2]

    def coefficient(u):
        return haar(u)[:, 5]  # a diagonal detail of the middle scale

    def roughness(u):
        return (u[..., 1:] - u[..., :-1]).abs().mean((1, 2, 3))

    return {
        "mean": lambda u: u.mean((1, 2, 3)),
        "pixel": pixel,
        "haar": coefficient,
        "roughness": roughness,
        "spread": lambda u: u.flatten(1).std(1),
        "log_density": lambda u: density.log_prob(u).detach(),
        "log_likelihood": lambda u: log_likelihood(u).detach(),
    }
