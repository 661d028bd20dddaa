"""The four operators on signals of 64 samples, and the measurements of 25 dB."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .laws import Law

LENGTH = 64
DECIBELS = 25.0


def cumulative(length: int = LENGTH) -> Tensor:
    """The matrix C that sums increments to a signal."""
    return torch.ones(length, length, dtype=torch.float64).tril()


def operators(length: int = LENGTH) -> dict[str, Tensor]:
    """Matrices (m, length) of norm 1 at most.

    A circular blur with 13 taps of a Gaussian of two samples; half of the samples; and the Fourier
    coefficients of the five lowest and ten other frequencies, real and imaginary parts.
    """
    g = torch.Generator().manual_seed(0)
    identity = torch.eye(length, dtype=torch.float64)
    taps = (-0.5 * (torch.arange(-6, 7, dtype=torch.float64) / 2).square()).exp()
    blur = sum(t * identity.roll(j, 1) for j, t in zip(range(-6, 7), (taps / taps.sum()).tolist()))
    kept = torch.randperm(length, generator=g)[: length // 2].sort().values
    others = 5 + torch.randperm(length // 2 - 5, generator=g)[: 10 * length // 64]
    angle = 2 * math.pi / length * torch.arange(length, dtype=torch.float64)
    rows = [torch.full((length,), length**-0.5, dtype=torch.float64)]
    for k in [1, 2, 3, 4, *others.tolist()]:
        rows += [(2 / length) ** 0.5 * (k * angle).cos(), (2 / length) ** 0.5 * (k * angle).sin()]
    return {
        "denoising": identity,
        "deconvolution": torch.as_tensor(blur),
        "imputation": identity[kept],
        "fourier": torch.stack(rows),
    }


def noise_level(law: Law, a: Tensor, signals: int = 20_000) -> float:
    """25 dB below the power of A x of the median signal, as in Zach et al."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = law.sample((signals, a.shape[1])).cumsum(1)
    power = (x @ a.T).square().mean(1).median()
    return math.sqrt(float(power) / 10 ** (DECIBELS / 10))
