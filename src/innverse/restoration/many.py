"""Many pictures by the workers of a cluster: chunks of a few, whose files travel there and back."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ..catalog import Operator
from ..clusters import Chunk, Failure, run
from ..clusters.records import forget
from ..data import atomic_write, write_json
from ..device import choose_device
from ..errors import InputError, UsageError
from ..models.travel import Travelling
from ..options import OptionError
from ..progress import Report
from ..reading import read_bytes
from ..report import Heat
from .jobs import Job
from .priors import Priors
from .results import Restored
from .setting import Setting
from .slices import Slice

# A chunk has so many inputs, so many bytes of them (four photographs of 256x256, or one large one), or
# so many pixels of slices. Whatever the cluster: what is solved side by side may differ in the last
# bits. Slices are solved by their chunks without a cluster too.
_INPUTS, _BYTES, _PIXELS = 64, 2**18, 2**20
_RECORDS, _SUMMARY = ".chunks", "result.json"
_GIVEN = "a model of the user's"

Together = Callable[..., dict[int, Restored]]


@dataclasses.dataclass
class Solving:
    """How pictures are solved, whichever they are.

    Attributes:
        asked: options of the method, checked.
        beside: methods that it is compared with.
        device: "auto" is that of whoever solves.
    """

    setting: Setting
    method: str
    asked: dict[str, Any]
    beside: tuple[str, ...]
    seed: int
    device: str


def by_workers(
    together: Together,
    jobs: list[Job],
    priors: Priors,
    solving: Solving,
    place: Callable[[Job], Path | None],
    out: Path | None,
    progress: Report | None,
) -> dict[int, Restored]:
    """What ``together`` finds of the jobs, by their ids; done by the workers, a few at a time.

    Raises:
        UsageError: an option that a worker refuses.
    """
    if solving.asked.get("checkpoint"):
        words = " is for one picture: on a cluster what is finished is kept by itself"
        raise OptionError("checkpoint", words)
    for channels in (1, 3):  # what will be asked for is read here once, and mistakes are told
        priors.choose(channels)
    named = priors.given is None or isinstance(priors.given, str)
    models = priors.loaded if named else {_GIVEN: priors.given}
    shared = {
        "together": together,
        "prior": priors.given if named else _GIVEN,
        "models": {name: Travelling(model) for name, model in models.items()},
        "used": priors.used,
        "written": out is not None,
        "solving": solving,
        "files": _files(solving.setting),
    }
    groups = groups_of(jobs)
    chunks = [
        Chunk(_name(group), lambda group=group: [_sent(job) for job in group], _weight(group))
        for group in groups
    ]
    records = None if out is None else out / _RECORDS
    found: dict[int, Restored] = {}
    whole = True
    for k, answer in run(_solve, chunks, shared, records=records, progress=progress):
        if isinstance(answer, Failure):
            if isinstance(answer.error, UsageError):
                raise answer.error
            whole = False
            for job in groups[k]:
                job.error = answer.error
            continue
        for job, one in zip(groups[k], answer, strict=True):
            if one["error"] is not None:
                job.error = InputError(one["error"])
            else:
                found[id(job)] = _received(one, solving.setting, job, place(job))
    if whole and records is not None:
        forget(records)
    return found


def groups_of(jobs: list[Job]) -> list[list[Job]]:
    """The jobs of each chunk."""
    groups: list[list[Job]] = []
    filled = 0.0
    for job in jobs:
        if isinstance(job.source, Slice):
            size = math.prod(job.source.stack.size) / _PIXELS
        else:
            size = _weight([job]) / _BYTES
        if not groups or len(groups[-1]) == _INPUTS or filled + size > 1:
            groups.append([])
            filled = 0.0
        groups[-1].append(job)
        filled += size
    return groups


def _weight(group: list[Job]) -> float:
    """Bytes."""
    total = 0.0
    for job in group:
        if isinstance(job.source, Path):
            total += job.source.stat().st_size if job.source.is_file() else 0
        elif isinstance(job.source, Slice):
            total += job.source.stack.values[0].nbytes
        else:
            total += job.source.nbytes
    return max(total, 1.0)


def _name(group: list[Job]) -> str:
    first, last = group[0].label, group[-1].label
    return first if len(group) == 1 else f"{first} to {last}"


def _sent(job: Job) -> dict[str, Any]:
    """A job as it travels: a file as its bytes."""
    sent = {"name": job.name, "label": job.label, "file": None, "error": None}
    if isinstance(job.source, Slice):
        return sent | {"source": job.source.cut()}
    if isinstance(job.source, Tensor):  # pickle takes a view with all it is a view of
        return sent | {"source": job.source.clone()}
    try:
        return sent | {"file": job.source.name, "source": read_bytes(job.source)}
    except InputError as error:
        return sent | {"error": str(error)}


def _files(setting: Setting) -> dict[str, tuple[str, bytes]]:
    """The files that options of the operator name (a mask, a kernel), as (path, bytes)."""
    if not isinstance(setting.operator, Operator):
        return {}
    values = {name: getattr(setting.operator, name) for name in setting.operator.declared}
    return {
        name: (os.fspath(value), read_bytes(value))
        for name, value in values.items()
        if isinstance(value, (str, os.PathLike)) and os.path.isfile(value)
    }


# ---- in the worker ------------------------------------------------------------------------------


def _solve(shared: dict[str, Any], sent: list[dict[str, Any]], progress: Report) -> list[dict]:
    """The results of a chunk, with the files that belong to them."""
    solving: Solving = shared["solving"]
    device = choose_device(solving.device)
    prior = shared["models"][_GIVEN] if shared["prior"] == _GIVEN else shared["prior"]
    priors = Priors(prior, device, shared["used"])
    priors.loaded = {name: model.to(device) for name, model in shared["models"].items()}
    priors.own = set(priors.loaded)
    with tempfile.TemporaryDirectory() as scratch:
        setting = _with_files(solving.setting, shared["files"], Path(scratch) / "options")
        jobs = [_job(one, Path(scratch) / "in" / str(k)) for k, one in enumerate(sent)]
        usable = [job for job in jobs if job.error is None]
        found = shared["together"](
            usable,
            priors,
            dataclasses.replace(solving, setting=setting),
            lambda job: Path(scratch) / "out" / job.name if shared["written"] else None,
            progress,
        )
        theirs = {getattr(setting.operator, o): path for o, (path, _) in shared["files"].items()}
        return [_packed(job, found.get(id(job)), theirs) for job in jobs]


def _with_files(setting: Setting, files: dict[str, tuple[str, bytes]], folder: Path) -> Setting:
    if not files:
        return setting
    operator = copy.copy(setting.operator)
    for option, (given, content) in files.items():
        path = folder / option / Path(given).name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        setattr(operator, option, str(path))
    return dataclasses.replace(setting, operator=operator)


def _job(sent: dict[str, Any], folder: Path) -> Job:
    if sent["error"] is not None:
        return Job(folder, sent["name"], sent["label"], error=InputError(sent["error"]))
    source = sent["source"]
    if sent["file"] is not None:
        folder.mkdir(parents=True)
        (folder / sent["file"]).write_bytes(source)
        source = folder / sent["file"]
    return Job(source, sent["name"], sent["label"])


def _packed(job: Job, one: Restored | None, theirs: dict[str, str]) -> dict[str, Any]:
    """``theirs``: {path of a copy: path as the user knows it}."""
    if one is None:
        words = str(job.error)
        for copied, known in {str(job.source): job.label, **theirs}.items():
            words = words.replace(copied, known)
        return {"error": words}
    names = ("source", "image", "std", "draws", "status", "converged", "notes", "summary", "beside",
             "interval", "x_range")  # fmt: skip
    files = {path.name: path.read_bytes() for path in one.files if path.name != _SUMMARY}
    shown = [
        [title, text, x.values, x.high] if isinstance(x, Heat) else [title, text, x, None]
        for title, text, x in one.shown
    ]
    kept = {name: getattr(one, name) for name in names}
    return kept | {"shown": shown, "files": files, "error": None}


# ---- and back -----------------------------------------------------------------------------------


def _received(one: dict[str, Any], setting: Setting, job: Job, folder: Path | None) -> Restored:
    """A result, its files written; those of several slices are written when all are there."""
    files = one.pop("files")
    found = Restored(**one)
    found.shown = [
        (title, text, x if high is None else Heat(x, high)) for title, text, x, high in found.shown
    ]
    found.interval = found.interval and (found.interval[0], found.interval[1])
    found.x_range = found.x_range and (found.x_range[0], found.x_range[1])
    found.summary["physics"] = setting.describe()  # a worker had copies of its files
    found.summary.pop("folder", None)
    if folder is not None and not job.several:
        found.files = [atomic_write(folder / name, content) for name, content in files.items()]
        found.files.append(write_json(folder / _SUMMARY, found.summary))
    if folder is not None:
        found.summary["folder"] = str(folder)
    return found
