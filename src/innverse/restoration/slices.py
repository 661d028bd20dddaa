"""Stacks of slices as inputs, each slice a picture of its own, and their results as one file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..data import Stack, write_image, write_json, write_stack
from ..data.stack import from_unit, to_unit
from ..report import Heat, panel

if TYPE_CHECKING:
    from .results import Restored

SHOWN = 6  # slices of a panel


@dataclass(frozen=True)
class Slice:
    """One slice of a file.

    Attributes:
        stack: slices of the file, all or only this one.
        index: its place among these.
        number: its place in the file.
        alone: whether the file has no others.
    """

    stack: Stack
    index: int
    number: int
    alone: bool

    @classmethod
    def all_of(cls, stack: Stack) -> list[Slice]:
        return [cls(stack, k, k, len(stack) == 1) for k in range(len(stack))]

    def cut(self) -> Slice:
        """Without the other slices, and what only the file of all needs."""
        if self.alone:
            return self
        own = slice(self.index, self.index + 1)
        values, names = self.stack.values[own].copy(), self.stack.names[own]
        stack = replace(self.stack, values=values, names=names, groups=(), kept=None)
        return replace(self, stack=stack, index=0)

    def values(self, x_range: tuple[float, float] | None) -> Tensor:
        """(1, C, H, W) float32: in units where there is a range, else black and white at 0 and 1."""
        values = self.stack.values[self.index][None].astype(np.float64)
        if x_range is None:
            values = to_unit(values, self.stack.x_range)
        return torch.from_numpy(values.astype(np.float32))

    def scale(
        self, given: tuple[float, float] | None, known: tuple[float, float] | None
    ) -> tuple[float, float] | None:
        """The range to solve on: what a user gives, what the prior knows, that of values with units;
        None for black and white."""
        return given or known or (None if self.stack.white else self.stack.x_range)


def in_units(x: Tensor, stack: Stack, x_range: tuple[float, float] | None) -> np.ndarray:
    """What `Slice.values` made of a slice, back."""
    values = x.double().numpy()
    return values if x_range is not None else from_unit(values, stack.x_range)


def write_values(folder: Path, stack: Stack, found: Sequence[Restored]) -> list[Path]:
    """Results as a stack like the one they came from, with std and the ends of the intervals."""
    parts: dict[str, list] = {"result": [], "std": [], "low": [], "high": []}
    for one in found:
        for name, x in zip(parts, (one.image, one.std, *(one.interval or (None, None)))):
            if x is not None:
                parts[name].append((x, one.x_range))
    files = []
    for name, given in parts.items():
        if given and len(given) == len(found):
            values = [in_units(x, stack, x_range) for x, x_range in given]
            if name == "std" and given[0][1] is None:
                values = [v - stack.x_range[0] for v in values]  # a deviation has no offset
            files.append(write_stack(folder / name, stack, np.stack(values), spread=name == "std"))
    return files


def write_together(folder: Path, stack: Stack, found: Sequence[Restored]) -> list[Path]:
    """The files of a stack of several slices: the stack, panel.png and result.json."""
    files = write_values(folder, stack, found)
    step = max(1, math.ceil(len(found) / SHOWN))
    pictures: list[tuple[str, str, Any]] = []
    rows = [one.shown for one in found[step // 2 :: step]]
    for k in range(max(len(row) for row in rows)):
        pictures += [row[k] for row in rows if k < len(row)]
    sheet = panel(pictures, columns=len(rows), cell=192)
    files.append(write_image(folder / "panel.png", sheet))
    summary = {
        "innverse": __version__,
        "file": stack.path,
        "units": stack.units,
        "files": [str(path.relative_to(folder)) for path in files],
        "converged": all(one.converged for one in found),
        "slices": [{k: v for k, v in one.summary.items() if k != "trace"} for one in found],
    }
    files.append(write_json(folder / "result.json", summary))
    return files


def titled(pictures: list[tuple], name: str) -> list[tuple[str, str, Tensor | Heat]]:
    """The pictures of a panel with the name of their slice."""
    return [(f"{title} {name}", text, x) for title, text, x in pictures]
