"""The cells of the study by the workers of a cluster, whose files come back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...clusters import Chunk, Failure, run
from ...data import atomic_write
from ...device import choose_device
from ...models.travel import Travelling
from ...progress import Progress, Report
from .cells import Cell, run_cell
from .pictures import Pictures


def by_workers(
    cells: list[Cell],
    sets: dict[str, Pictures],
    priors: dict[str, Any],
    folder: Path,
    effort: Mapping[str, float],
    device: str,
    *,
    progress: Progress,
) -> dict[str, str]:
    """Compute the cells that are not finished, into their files; returns {path: why} of failures."""
    missing = []
    for k, cell in enumerate(cells):
        given = (cell, sets[cell.set], priors, folder, effort)
        if run_cell(*given, compute=False) is None:
            missing.append(cell)
        progress.skip(k + 1 - len(missing))
    first = len(cells) - len(missing)
    chunks = [Chunk(cell.path, lambda cell=cell: cell, cell.last - cell.first) for cell in missing]
    sent = {role: Travelling(model) for role, model in priors.items()}
    shared = {"sets": sets, "priors": sent, "effort": dict(effort), "device": device}
    failed: dict[str, str] = {}
    report = progress.part(first, len(cells))
    for k, found in run(_cell, chunks, shared, progress=report):
        if isinstance(found, Failure):
            failed[missing[k].path] = str(found.error)
            continue
        # the last is the result, whose presence says that all is there
        for name, content in found.items():
            atomic_write(folder / name, content)
    return failed


def _cell(shared: dict[str, Any], cell: Cell, progress: Report) -> dict[str, bytes]:
    """The files of a cell, by their place in the folder of the study."""
    device = choose_device(shared["device"])
    priors = {role: model.to(device) for role, model in shared["priors"].items()}
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        given = (cell, shared["sets"][cell.set], priors, out, shared["effort"], device)
        run_cell(*given, progress=progress)
        files = [file for file in out.rglob("*") if file.is_file()]
        files.sort(key=lambda file: file == cell.file(out))
        return {str(file.relative_to(out)): file.read_bytes() for file in files}
