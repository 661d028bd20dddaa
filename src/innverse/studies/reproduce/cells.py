"""The unit of work: one method on one batch of pictures in one setting, kept as one small file.

A cell whose file says that it was made by the same settings is not run again, so an interrupted run
continues where it stopped, and a changed setting renews only what it touches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import __version__
from ...data import read_image, write_image, write_json
from ...metrics import psnr, ssim
from ...progress import Report
from ...solvers import solve
from .pictures import SIDE, Pictures
from .problems import FAMILIES
from .protocol import EXPERIMENTS, Method, Scale, options

SEED = 0
_SHOWN = 4  # reconstructions kept as pictures, for the panels


@dataclass(frozen=True)
class Cell:
    """Pictures ``first`` to ``last`` (excluded) of a set, by one method in one setting."""

    experiment: str
    setting: str
    set: str
    name: str
    method: Method
    first: int
    last: int

    @property
    def path(self) -> str:
        """``"compressed_sensing/0.2/ffhq/flow"``, what ``--only`` chooses by."""
        return f"{self.experiment}/{self.setting}/{self.set}/{self.name}"

    def matches(self, patterns: Sequence[str]) -> bool:
        """Whether any of ``patterns``, with ``*`` for anything, is its `path`."""
        return any(fnmatchcase(self.path, pattern) for pattern in patterns)

    def file(self, folder: Path) -> Path:
        """Where its result lies."""
        name = "".join(c if c.isalnum() or c in "._-" else "_" for c in self.name)
        place = folder / "cells" / self.experiment / self.setting / self.set
        return place / f"{name}-{self.first:03d}.json"


def plan(scale: Scale, sets: dict[str, Pictures], roles: set[str]) -> Iterator[Cell]:
    """All cells of a scale, in the order in which they are run.

    ``roles`` are the priors at hand: a method that needs another is left out.
    """
    for key, count in scale.settings.items():
        experiment = EXPERIMENTS[key]
        for setting in experiment.settings[:count]:
            for group in experiment.sets:
                if group not in sets or group not in scale.sets:
                    continue
                total = min(scale.images, len(sets[group].names))
                for name, method in experiment.methods.items():
                    if name in scale.leave_out or not (method.role is None or method.role in roles):
                        continue
                    for first in range(0, total, scale.batch):
                        last = min(first + scale.batch, total)
                        yield Cell(key, setting, group, name, method, first, last)


def run_cell(
    cell: Cell,
    pictures: Pictures,
    priors: dict[str, Any],
    folder: Path,
    effort: Mapping[str, float],
    device: torch.device | str = "cpu",
    *,
    compute: bool = True,
    progress: Report | None = None,
) -> dict[str, Any] | None:
    """The result of a cell, from its file if there is one of the same settings.

    It holds one list per quantity, with an entry for each picture. Without ``compute`` a cell that
    has no such file is None. ``progress`` is that of `innverse.solve`.
    """
    file = cell.file(folder)
    if not compute and not file.is_file():
        return None  # before all weights of a prior are read for its mark
    given = options(cell.experiment, cell.setting, cell.name, cell.method, effort)
    x = pictures.x[cell.first : cell.last]
    prior = None if cell.method.role is None else priors[cell.method.role]
    mark = _fingerprint(cell, given, x, prior)
    kept = _read(file, mark)
    if kept is not None or not compute:
        return kept
    physics, y = measurement(cell.experiment, cell.setting, x, cell.first)
    physics, y = physics.to(device), y.to(device)
    r = solve(y, physics, prior, cell.method.method, progress=progress, **given)
    found = r.x.cpu()
    result = {
        "mark": mark,
        "method": cell.method.method,
        "options": given,
        "images": pictures.names[cell.first : cell.last],
        "psnr": psnr(found, x),
        "ssim": ssim(found, x),
        "residual": r.residual,
        "z_norm": r.z_norm if cell.method.role else None,
        "log_prob": r.log_prob,
        "evaluations": r.evaluations,
        "converged": r.converged,
        "status": r.status,
        "seconds": r.seconds,
    }
    if cell.first == 0:
        _write_strip(file.with_suffix(".png"), found)
        _write_strip(file.with_name("truth.png"), x)
    write_json(file, result)  # last: its presence says that all is there
    return json.loads(file.read_text("utf-8"))


def measurement(experiment: str, setting: str, x: Tensor, first: int = 0) -> tuple[Any, Tensor]:
    """The operator and y of pictures ``first`` and following of a set.

    The noise of a picture depends on its place in the set, not on the batch.
    """
    physics = _physics(EXPERIMENTS[experiment].family, setting)
    rows = []
    for i in range(len(x)):
        generator = torch.Generator().manual_seed(SEED + 1 + first + i)
        rows.append(physics(x[i : i + 1], generator))
    return physics, torch.cat(rows)


@lru_cache(maxsize=1)  # a Gaussian matrix takes up to 600 MB
def _physics(family: str, setting: str):
    return FAMILIES[family](setting, SEED)


def strip(file: Path) -> list[Tensor]:
    """The pictures (3, 64, 64) that `run_cell` kept beside a cell."""
    wide = read_image(file, "RGB").tensor
    return list(wide.split(SIDE, -1))


def _write_strip(file: Path, x: Tensor) -> None:
    write_image(file, torch.cat(list(x[:_SHOWN]), -1))


def _read(file: Path, mark: str) -> dict[str, Any] | None:
    try:
        result = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and result.get("mark") == mark else None


def _fingerprint(cell: Cell, given: dict, x: Tensor, prior) -> str:
    """Of everything that the result depends on."""
    digest = hashlib.sha256()
    what = [__version__, cell.experiment, cell.setting, cell.method.method, given, SEED]
    if cell.method.method == "pnp":
        what.append(getattr(prior, "symmetries", ()))  # only the denoiser looks at turned pictures
    digest.update(json.dumps(what, sort_keys=True).encode())
    digest.update((x * 255).round().to(torch.uint8).numpy().tobytes())
    if prior is not None:
        for tensor in prior.state_dict().values():
            digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
