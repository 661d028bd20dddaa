"""The finished cells, asked by experiment, setting, set and method."""

from __future__ import annotations

import csv
import io
import math
import statistics
from pathlib import Path
from typing import Any

from torch import Tensor

from ...data import atomic_write
from .cells import Cell, strip

_COLUMNS = (
    "psnr", "ssim", "residual", "z_norm", "log_prob", "evaluations", "converged", "status"
)  # fmt: skip


class Results:
    """What has been measured so far; cells of one method on one set are put together."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.cells: dict[tuple[str, str, str, str], list[tuple[Cell, dict[str, Any]]]] = {}

    def add(self, cell: Cell, found: dict[str, Any]) -> None:
        key = (cell.experiment, cell.setting, cell.set, cell.name)
        self.cells.setdefault(key, []).append((cell, found))

    def settings(self, experiment: str) -> list[str]:
        return list(dict.fromkeys(s for e, s, _, _ in self.cells if e == experiment))

    def sets(self, experiment: str) -> list[str]:
        return list(dict.fromkeys(g for e, _, g, _ in self.cells if e == experiment))

    def methods(self, experiment: str) -> dict[str, str]:
        """{name: label} of the methods that were run."""
        rows = self.cells.items()
        return {
            name: cells[0][0].method.label for (e, _, _, name), cells in rows if e == experiment
        }

    def values(
        self, experiment: str, setting: str, group: str, name: str, what: str = "psnr"
    ) -> list[float]:
        """One number per picture; empty if there is no such cell."""
        rows = self.cells.get((experiment, setting, group, name), [])
        return [v for _, found in rows for v in found[what] or () if v is not None]

    def mean(
        self, experiment: str, setting: str, group: str, name: str, what: str = "psnr"
    ) -> float | None:
        """The mean over the pictures, or None."""
        values = self.values(experiment, setting, group, name, what)
        return math.fsum(values) / len(values) if values else None

    def error(self, experiment: str, setting: str, group: str, name: str) -> float:
        """The standard error of `mean`."""
        values = self.values(experiment, setting, group, name)
        return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0

    def failures(self) -> list[str]:
        """Every picture whose search failed, in words."""
        return [
            f"{cell.experiment} {cell.setting}, {cell.method.label}, {cell.set} {image}: {status}"
            for rows in self.cells.values()
            for cell, found in rows
            for image, status in zip(found["images"], found["status"], strict=True)
            if status.startswith("failed")
        ]

    def pictures(self, experiment: str, setting: str, group: str, name: str) -> list[Tensor]:
        """The first reconstructions; ``name`` "truth" gives the pictures themselves."""
        for key, rows in self.cells.items():
            if key[:3] == (experiment, setting, group) and name in (key[3], "truth"):
                file = rows[0][0].file(self.folder)
                truth = name == "truth"
                return strip(file.with_name("truth.png") if truth else file.with_suffix(".png"))
        return []

    def json(self) -> dict[str, Any]:
        """{experiment: {set: {setting: {method: mean dB}}}}."""
        out: dict[str, Any] = {}
        for experiment, setting, group, name in self.cells:
            place = out.setdefault(experiment, {}).setdefault(group, {}).setdefault(setting, {})
            place[name] = self.mean(experiment, setting, group, name)
        return out

    def write_csv(self, file: Path) -> None:
        """One row for each picture of each cell."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["experiment", "setting", "set", "method", "image", *_COLUMNS, "seconds"])
        for key, rows in self.cells.items():
            for _, found in rows:
                share = found["seconds"] / len(found["images"])
                for i, image in enumerate(found["images"]):
                    numbers = [None if found[c] is None else found[c][i] for c in _COLUMNS]
                    writer.writerow([*key, image, *numbers, f"{share:.3f}"])
        atomic_write(file, text.getvalue())
