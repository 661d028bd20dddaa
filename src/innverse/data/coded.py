"""Slices with units as whole numbers between the two ends of one range, for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InnverseError, InputError, ShapeError
from .files import read_files
from .stack import Range, Stack, spanned

_RARE = 0.05  # per cent of the values at either end
_SPARSE, _TINY = 4, 100  # how often the rest fits into the range


@dataclass
class Coded:
    """Images (C, H, W), each pixel v as round(top (v - low) / (high - low)), top = 255 or 65535.

    Attributes:
        x_range: (low, high); None where the values were whole numbers of 8 bits to begin with.
        units: of low and high.
        groups: equal where images show the same object.
        notes: what was done on the way, in words.
        failures: (name, reason) of what could not be read.
    """

    names: list[str] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    x_range: Range | None = None
    units: str = ""
    notes: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


def code(
    entries: Sequence[tuple[str, list[Path]]],
    label: str,
    channels: int | None = None,
    x_range: Range | None = None,
    top: int = 65535,
    most_bytes: int = 4 << 30,
) -> Coded:
    """The slices of some stacks, {name: files}, on one range: that which is given, where what lies
    beyond is clipped, or the smallest and largest of all values.

    Raises:
        InputError: none can be read, they are in several units, or fill the memory.
    """
    found, stacks, used = Coded(), [], 0
    for name, files in entries:
        try:
            stack = read_files(files, name)
        except InnverseError as error:
            if len(entries) == 1 or not isinstance(error, InputError):
                raise
            found.failures.append((name, str(error)))
            continue
        stacks.append((name, stack))
        used += 2 * stack.values.size
        if used > most_bytes:
            raise InputError(
                f"{label}: more than {most_bytes >> 30} GB of slices; train on a part of them"
            )
    if not stacks:
        raise InputError(
            f"{label}: none of {len(entries)} files can be read; the first: {found.failures[0][1]}"
        )
    units = {stack.units for _, stack in stacks}
    if len(units) > 1:
        names = " and ".join(sorted(repr(u or "no unit") for u in units))
        raise InputError(f"{label} has files in {names}: train on those of one kind")
    found.units = units.pop()
    if not (top == 255 or x_range) and all(s.eight_bit and s.white for _, s in stacks):
        top = 255
    exact = top == 255 and all(s.values.dtype == np.uint8 for _, s in stacks) and not x_range
    found.x_range = None if exact else x_range or _whole_range(stacks)
    if found.x_range is not None:
        found.notes += _notes(stacks, found.x_range, x_range is not None)
    found.notes += dict.fromkeys(
        note for _, s in stacks for note in s.notes if "--range" not in note
    )
    for name, stack in stacks:
        for k, values in enumerate(stack.values):
            found.images.append(_with_channels(_codes(values, found.x_range, top), channels))
            found.names.append(f"{name}[{k:04d}]" if len(stack) > 1 else name)
            found.groups.append(stack.groups[k] if stack.groups else name)
    if len({image.shape[0] for image in found.images}) > 1:
        raise ShapeError(f"{label} has gray and coloured slices: give channels = 1 or 3")
    return found


def _whole_range(stacks: list[tuple[str, Stack]]) -> Range:
    """The smallest and the largest value, or (0, 1) of floats that lie within."""
    low = min(float(s.values.min()) for _, s in stacks)
    high = max(float(s.values.max()) for _, s in stacks)
    floats = all(s.values.dtype.kind == "f" and s.white for _, s in stacks)
    return (0.0, 1.0) if floats and low >= 0 and high <= 1 else spanned(low, high)


def _notes(stacks: list[tuple[str, Stack]], x_range: Range, given: bool) -> list[str]:
    """What the range clips, or that a few values far away take most of it."""
    low, high = x_range
    total = sum(s.values.size for _, s in stacks)
    some = np.concatenate([s.values.ravel()[:: max(1, total // 10**6)] for _, s in stacks])
    ends = np.percentile(some, (_RARE, 100 - _RARE))
    if given:
        n = sum(int(((s.values < low) | (s.values > high)).sum()) for _, s in stacks)
        notes = [f"{n / total:.2%} of the values lie beyond the range and are clipped"] if n else []
        if high - low > _TINY * (ends[1] - ends[0]):
            notes.append(
                f"{100 - 2 * _RARE:g} % of the values lie in {ends[0]:g} to {ends[1]:g}, hardly "
                f"anything of the range {low:g} to {high:g}: are they in other units?"
            )
        return notes
    if high - low <= _SPARSE * (ends[1] - ends[0]):
        return []
    words = (
        f"{100 - 2 * _RARE:g} % of the values lie in {ends[0]:g} to {ends[1]:g}, a small part of the "
        f"range {low:g} to {high:g}: give --range to clip the rest"
    )
    return [words]


def _codes(values: np.ndarray, x_range: Range | None, top: int) -> np.ndarray:
    if x_range is None:
        return values.astype(np.uint8, copy=False)
    low, high = x_range
    unit = (values.astype(np.float64) - low) / (high - low)
    return np.rint(top * unit.clip(0, 1)).astype(np.uint8 if top == 255 else np.uint16)


def _with_channels(image: np.ndarray, channels: int | None) -> np.ndarray:
    if channels == 3 and len(image) == 1:
        return np.repeat(image, 3, axis=0)
    if channels == 1 and len(image) == 3:
        luma = np.tensordot([0.299, 0.587, 0.114], image, 1)
        return np.rint(luma[None]).astype(image.dtype)
    return image
