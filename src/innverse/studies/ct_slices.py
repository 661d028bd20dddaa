"""Slices of computed tomography for experiments: split by patient, in one range."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.npy import load_numpy
from ..errors import InputError, unknown

HOUNSFIELD = (-1000.0, 2000.0)
"""What pictures of CT mean by 0 and 1: air, and bone as dense as it gets."""

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
