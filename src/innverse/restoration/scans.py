"""Scans for experiments: slices split by patient, and how they are measured in simulations."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.npy import load_numpy
from ..errors import InputError, unknown
from ..physics import MRI, LinearPhysics, Tomography, TransmissionNoise, cartesian_mask
from ..physics.mri import simulated_sensitivities

HOUNSFIELD = (-1000.0, 2000.0)
"""What pictures of CT mean by 0 and 1: air, and bone as dense as it gets."""

_WATER = 0.02  # absorbed per millimetre at the energies of CT
_FIELD = 360.0  # millimetres across a slice

PARTS = ("train", "validation", "test")


def part_of_patient(patient: int) -> str:
    """Every fifth patient is for tests, one in ten for choices, the others for training.

    Example:
        >>> [part_of_patient(k) for k in (0, 1, 2, 3)]
        ['test', 'train', 'train', 'validation']
    """
    return "test" if patient % 5 == 0 else "validation" if patient % 10 == 3 else "train"


def ct_slices(path: str | PathLike, part: str, side: int = 256) -> Tensor:
    """The slices of a part of the patients: (N, 1, side, side) in [0, 1], see `HOUNSFIELD`.

    Args:
        path: a .npz file with ``hu`` (N, H, W) in Hounsfield units and ``patient`` (N,), numbers.
        part: ``"train"``, ``"validation"`` or ``"test"``; no two share a patient.
        side: pixels are averaged down to so many.

    Raises:
        InputError: not such a file, or no slice of that part.
        UsageError: another part.

    Example:
        >>> import numpy as np
        >>> hu = np.full((2, 8, 8), 500, np.int16)
        >>> np.savez("slices.npz", hu=hu, patient=np.array([0, 1]))
        >>> ct_slices("slices.npz", "train", side=4).unique()
        tensor([0.5000])
    """
    if part not in PARTS:
        raise unknown("part", part, PARTS)
    hu, patient = load_numpy(Path(path), "hu"), load_numpy(Path(path), "patient")
    if hu.ndim != 3 or patient.shape != hu.shape[:1]:
        raise InputError(
            f"{path}: hu must be (N, H, W) and patient (N,), got {hu.shape} and {patient.shape}"
        )
    chosen = [i for i, k in enumerate(patient) if part_of_patient(int(k)) == part]
    if not chosen:
        raise InputError(f"{path} has no slice of a patient for {part}")
    x = torch.tensor(hu[chosen]).float().unsqueeze(1)
    low, high = HOUNSFIELD
    return F.adaptive_avg_pool2d((x.clamp(low, high) - low) / (high - low), side)


@dataclass(frozen=True)
class Views:
    """A scan with parallel rays: views spread evenly over ``span`` degrees, photons of each ray."""

    number: int
    photons: float
    span: float = 180.0


CT = {
    "ct-60": Views(60, 1e5),
    "ct-180": Views(180, 1e5),
    "ct-180-low": Views(180, 1e4),
    "ct-limited-120": Views(120, 1e5, 120.0),
}
"""Tasks of computed tomography."""

MAGNETIC = {"mri-4": 4.0}
"""Tasks of magnetic resonance: of so many columns of k-space one is measured, by 8 coils."""

_COILS, _COIL_NOISE = 8, 0.01


def scanner(task: str, shape: tuple[int, int, int]) -> LinearPhysics:
    """The operator of a task in `CT` or `MAGNETIC` for pictures (1, H, W), with its noise.

    CT: rays through 360 mm of slices in `HOUNSFIELD`, whose photons are counted; line integrals are
    in pixels, y = -log(counts / photons) / absorption. Magnetic resonance: a real picture, noise of
    0.01 in either part of each coil's frequencies.

    Raises:
        UsageError: another task.

    Example:
        >>> physics = scanner("ct-60", (1, 32, 32))
        >>> y = physics(torch.rand(1, 1, 32, 32), generator=torch.Generator().manual_seed(0))
        >>> y.shape[2]
        60
    """
    if task in CT:
        scan = CT[task]
        angles = torch.arange(scan.number, dtype=torch.float64) * scan.span / scan.number
        water = _WATER * _FIELD / max(shape[-2:])
        of_one = water * (HOUNSFIELD[1] - HOUNSFIELD[0]) / 1000
        return Tomography(shape, angles, noise=TransmissionNoise(scan.photons, of_one))
    if task in MAGNETIC:
        mask = cartesian_mask(shape[-2:], MAGNETIC[task])
        return MRI(simulated_sensitivities(_COILS, shape[-2:]), mask, noise=_COIL_NOISE)
    raise unknown("task", task, (*CT, *MAGNETIC))


def simulate(task: str, clean: Tensor, seed: int = 0) -> tuple[Tensor, LinearPhysics]:
    """Measurements of pictures (N, 1, H, W) in [0, 1], and their operator, see `scanner`.

    Example:
        >>> y, physics = simulate("mri-4", torch.rand(2, 1, 32, 32))
        >>> y.shape
        torch.Size([2, 16, 32, 32])
    """
    _, channels, height, width = clean.shape
    physics = scanner(task, (channels, height, width))
    generator = torch.Generator().manual_seed(seed)
    each = [physics(x[None], generator=generator) for x in clean]
    return torch.cat(each), physics


def classical(physics: LinearPhysics, y: Tensor) -> Tensor:
    """What is seen without any prior: filtered back-projection (Hann), or missing frequencies zero.

    Example:
        >>> y, physics = simulate("ct-180", torch.rand(1, 1, 32, 32))
        >>> classical(physics, y).shape
        torch.Size([1, 1, 32, 32])
    """
    if isinstance(physics, Tomography):
        return physics.filtered_back_projection(y, "hann").clamp(0, 1)
    return physics.classical(y).clamp(0, 1)
