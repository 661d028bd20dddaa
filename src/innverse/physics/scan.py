"""What a file of a scanner holds: a measurement, the operator behind it, the picture of all data."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..errors import InputError
from .base import LinearPhysics


@dataclass
class Scan:
    """A measured slice.

    Attributes:
        y: (1, ...).
        physics: with its noise; images are in units of ``unit``.
        unit: the value of 1 in images, in the units of the file.
        full: (1, 1, H, W), the classical picture of all data of the file, where some were left out.
        notes: how it was read, in words.

    Example:
        >>> Scan(torch.zeros(1, 1, 8, 8), Denoising(), unit=2.0).notes
        []
    """

    y: Tensor
    physics: LinearPhysics
    unit: float
    full: Tensor | None = None
    notes: list[str] = field(default_factory=list)


def chosen_slice(number: int | None, slices: int, path) -> int:
    """Which of the slices of a file: the given one, counted from 0, or the middle.

    Raises:
        InputError: there is no such slice.
    """
    number = slices // 2 if number is None else number
    if number >= slices:
        raise InputError(f"{path} has {slices} slices, counted from 0: there is no slice {number}")
    return number
