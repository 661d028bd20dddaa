"""Restore pictures: read them, solve those of equal size together, and write what was found."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import solvers
from ..catalog import METHODS, Operator
from ..clusters import active
from ..device import choose_device
from ..errors import InnverseError, InputError, UsageError, is_out_of_memory
from ..progress import Report, part
from ..solvers import Reconstruction, SolveWarning, method_for
from ..solvers.solve import AUTO
from ..solvers.windows import is_local
from .jobs import Job, Measured, gather, prepare
from .many import Solving, by_workers, groups_of
from .priors import Priors
from .results import Restored, compare, keep_slice, result_of, write
from .setting import Setting, split_options
from .slices import Slice, write_together

# Pixels solved side by side. pnp cuts large batches itself; the others keep all in memory.
_BATCH_PIXELS, _BATCH_PIXELS_PNP = 2**18, 2**22
_CHECKPOINT_PIXELS, _MOST_PIXELS = 2**18, 2**22


def restore(
    inputs: Any,
    physics: Any,
    *,
    out: str | os.PathLike | None = None,
    prior: Any = None,
    method: str = AUTO,
    simulate: bool = False,
    noise: Any = None,
    x_range: tuple[float, float] | None = None,
    image_shape: tuple[int, int, int] | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: Report | None = None,
    keep_failures: bool = False,
    beside: Sequence[str] = (),
    **options: Any,
) -> list[Restored]:
    """Restore pictures, or other measurements, and write the results into a folder.

    Inputs of equal size are solved together; what one gets does not depend on those beside it. Within
    ``with innverse.cluster(...)`` several inputs are shared out among the workers; with ``out`` what is
    finished is kept, and the same call goes on.

    Args:
        inputs: a path of a picture, a folder or a .npy, an array or tensor (C, H, W) or (H, W) on
            [0, 1] or of 8 bits, a batch of them (B, C, H, W), or a list of all these; or slices with
            units in TIFF, DICOM (a file, or the folder of a series), NIfTI, HDF5 (``file.h5:name``),
            MATLAB or .npz, see `innverse.data.read_stack`. Measurements that are no pictures, such as
            sinograms, are arrays, or files of them.
        physics: one of `innverse.physics.names`, whose options are among ``options``, or any
            operator that `innverse.solve` takes.
        out: folder for the slices in the format and units they came in, with std and the ends of 90 %
            intervals beside them (result.tif, std.tif, low.tif, high.tif), panel.png and
            result.json; for pictures result.png, and of "posterior" report.html,
            std.png, interval.png, draws.png, draws.gif and draws.npz; for several inputs, a folder
            of its name for each. None writes nothing.
        prior: a model, its name, or its folder; by default natural-color or natural-gray. Colour
            images under a gray prior are solved channel by channel.
        method: "auto" or one of `innverse.catalog.METHODS`, whose options are among ``options``.
        simulate: the inputs are clean: degrade them first, and report PSNR and SSIM.
        noise: standard deviation, or "auto" or "counts", which estimate it; see `innverse.solve`.
        x_range: the values of black and white, where they are not 0 and 1. Slices with units have
            those that the prior was trained on, or that their file gives. Noise is in these units.
        image_shape: (C, H, W) of the image behind measurements that are no pictures.
        seed: of everything random.
        device: where to compute, "auto", "cpu" or "cuda".
        progress: called as progress(done, total, note).
        keep_failures: an input that cannot be used becomes a result with an ``error`` instead of
            an exception.
        beside: methods with their usual options, whose results are shown beside it and compared.
        options: of the operator and of the method. What both know is the operator's.

    Returns:
        One `Restored` for each input, and for each slice of a stack, in their order. Doubts are in its
        ``notes``.

    Raises:
        UsageError: an unknown name, option or value.
        InputError, ShapeError: an input that cannot be used.

    Example:
        >>> (result,) = restore(torch.rand(1, 16, 16), "denoising", noise=0.1, method="tv")
        >>> result.image.shape, result.converged
        (torch.Size([1, 16, 16]), True)
    """
    own, asked = split_options(physics, method, options)
    for name in beside:
        METHODS.real_name(name)
    setting = Setting.of(
        physics, own, noise=noise, simulate=simulate, seed=seed, image_shape=image_shape,
        x_range=x_range,
    )  # fmt: skip
    if isinstance(inputs, (list, tuple)) and len(inputs) == 1:
        (inputs,) = inputs
    jobs = gather(inputs, setting)
    folder = isinstance(inputs, (str, os.PathLike)) and Path(inputs).is_dir()
    single = len({job.name for job in jobs}) == 1 and not (
        folder and isinstance(jobs[0].source, Path)
    )
    shared_out = active() is not None and len(jobs) > 1
    usable = [job for job in jobs if job.error is None]
    for k, group in enumerate(groups_of(usable)):
        for job in group:
            job.chunk = k if job.several else None
    here = "cpu" if shared_out else device  # the workers have devices of their own
    target = choose_device(here) if isinstance(here, str) else here
    ways = (method, *beside)
    priors = Priors(prior, target, AUTO in ways or any(METHODS[name].uses_prior for name in ways))
    solving = Solving(setting, method, asked, tuple(beside), seed, str(device))

    def place(job: Job) -> Path | None:
        return None if out is None else Path(out) if single else Path(out) / job.name

    if shared_out:
        records = None if out is None else Path(out)
        found = by_workers(_together, usable, priors, solving, place, records, progress)
    else:
        found = _together(jobs, priors, solving, place, progress, keep_failures)
    errors = [job.error for job in jobs if job.error is not None]
    if errors and not keep_failures:
        raise errors[0]
    if out is not None:
        _write_stacks(jobs, found)
    return [found.get(id(job)) or _failure(job) for job in jobs]


def _together(
    jobs: list[Job],
    priors: Priors,
    solving: Solving,
    place: Callable[[Job], Path | None],
    progress: Report | None = None,
    keep_failures: bool = True,
) -> dict[int, Restored]:
    """The results of jobs by their ids, written to where their ``place`` is; others have an error."""
    setting, method, asked, target = solving.setting, solving.method, solving.asked, priors.device
    beside, rounds = solving.beside, 1 + len(solving.beside)
    found: dict[int, Restored] = {}

    def failed(some: list[Job], error: InnverseError) -> None:
        if not keep_failures:
            raise error
        for job in some:
            job.error, job.measured = error, None

    kept: dict[Any, Any] = {}
    for job in jobs:
        if job.error is not None:
            failed([job], job.error)
            continue
        try:
            job.measured = one = prepare(job, setting, priors.choose, priors.loaded.get)
            if one.scan is None:  # which brings an operator of its own
                # slices of a volume share one operator, and its memory
                shape = one.physics.image_shape or one.y.shape[1:]
                one.physics = kept.setdefault(tuple(shape), one.physics)
        except UsageError:
            raise
        except InputError as error:
            failed([job], error)
    batches = _batches(jobs, priors, method, asked, failed)
    sizes = [sum(job.known.y.numel() for job in batch) for batch, _ in batches]
    total, before = sum(sizes) * rounds, 0
    for number, (size, (batch, way)) in enumerate(zip(sizes, batches, strict=True), 1):
        words = "" if len(batches) == 1 else f"batch {number} of {len(batches)}"
        call = dict(asked)
        if way != "pnp" and method == AUTO:
            call.pop("tile", None)  # "auto" and "none" are no wish
        if "seed" in METHODS[way].declared:
            call["seed"] = solving.seed
        if setting.estimates_noise or not isinstance(setting.operator, Operator):
            call["noise"] = setting.noise
        if call.get("checkpoint") and len(batches) > 1:  # each is a run of its own
            call["checkpoint"] = str(Path(call["checkpoint"]) / str(number))
        shape = batch[0].known.physics.image_shape or batch[0].known.y.shape[1:]
        tiled = way != "pnp" and shape[-2] * shape[-1] > _MOST_PIXELS
        call |= {"method": way if tiled else method, "x_range": batch[0].known.x_range}
        call["progress"] = progress and part(progress, before, before + size, words, total)
        by = solvers.solve_in_tiles if tiled else solvers.solve
        for some, result in _solve(batch, by, priors, target, call, failed):
            first = 0
            for job in some:
                measured = job.known
                rows = slice(first, first + measured.planes)
                first = rows.stop
                one = result_of(job, measured, setting, result, rows)
                for k, name in enumerate(beside, 1):
                    span = before + k * size, before + (k + 1) * size
                    report = progress and part(progress, *span, name, total)
                    compare(one, measured, _other(name, measured, priors, call, target, report))
                found[id(job)] = one
                folder = place(job)
                if folder is None:
                    continue
                one.summary["folder"] = str(folder)
                if isinstance(job.source, Slice) and job.several:
                    keep_slice(one, measured, job.source)
                else:
                    write(one, job, measured, setting, folder)
        before += size * rounds
    return found


def _write_stacks(jobs: list[Job], found: dict[int, Restored]) -> None:
    """The results of stacks of several slices, of those that have one."""
    several: dict[str, list[tuple[Slice, Restored]]] = {}
    for job in jobs:
        if isinstance(job.source, Slice) and job.several and id(job) in found:
            several.setdefault(job.name, []).append((job.source, found[id(job)]))
    for members in several.values():
        stack, results = members[0][0].stack, [one for _, one in members]
        if len(results) == len(stack):
            files = write_together(Path(results[0].summary["folder"]), stack, results)
            for one in results:
                one.files += files


def _failure(job: Job) -> Restored:
    words = " ".join(str(job.error).split())
    return Restored(job.label, status=f"failed: {words}", error=job.error)


def _other(
    name: str, measured: Measured, priors: Priors, call: dict[str, Any], device, progress
) -> Reconstruction:
    """What another method finds, with its usual options."""
    prior = priors.of(measured) if METHODS[name].uses_prior else None
    shared = {key: call[key] for key in ("noise", "x_range") if key in call}
    seed = {"seed": call["seed"]} if "seed" in call and "seed" in METHODS[name].declared else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolveWarning)
        return solvers.solve(
            measured.y.to(device), measured.physics.to(device), prior, name, progress=progress,
            **shared, **seed,
        )  # fmt: skip


Failed = Callable[[list[Job], InnverseError], None]


def _batches(
    jobs: list[Job], priors: Priors, method: str, asked: dict[str, Any], failed: Failed
) -> list[tuple[list[Job], str]]:
    """Jobs of equal size together, as many as memory allows; each with its method."""
    groups: dict[tuple, list[Job]] = {}
    for job in jobs:
        if job.measured is not None:
            y, physics = job.measured.y, job.measured.physics
            shape = physics.image_shape or tuple(y.shape[1:])
            # a scan has an operator of its own
            alone = job.name if job.measured.scan is not None else None
            key = (job.measured.prior, y.shape[1:], shape, job.measured.x_range, alone, job.chunk)
            groups.setdefault(key, []).append(job)
    batches: list[tuple[list[Job], str]] = []
    for (name, _, shape, *_), members in groups.items():
        flow = priors.of(members[0].known)
        way = _way(members[0], flow, asked) if method == AUTO else method
        plane = shape[-2] * shape[-1]
        if plane > _MOST_PIXELS and not _tiles(members[0], way):
            for job in members:
                words = (
                    f"{job.label}: {shape[-1]}x{shape[-2]} pixels are too many for method {way}, "
                    "which keeps the whole picture in memory; use pnp, "
                    "which tiles"
                )
                failed([job], InputError(words))
            continue
        if way != "pnp" and plane > _CHECKPOINT_PIXELS and name in priors.own:
            from ..bijections import set_memory

            set_memory(priors.loaded[name], "checkpoint")
        room = max(1, (_BATCH_PIXELS_PNP if way == "pnp" else _BATCH_PIXELS) // plane)
        batch, filled = [], 0
        for job in members:
            if batch and filled + job.known.planes > room:
                batches.append((batch, way))
                batch, filled = [], 0
            batch.append(job)
            filled += job.known.planes
        batches.append((batch, way))
    return batches


def _tiles(job: Job, way: str) -> bool:
    """Whether a method can work on parts of a picture: draws of parts are none of the whole."""
    return way == "pnp" or (is_local(job.known.physics) and "draws" not in METHODS[way].declared)


def _way(job: Job, flow: Any, asked: dict[str, Any]) -> str:
    """What "auto" takes for a job, whose memory it decides."""
    one = job.known
    try:
        return method_for(one.y, one.physics, flow, asked=[*asked])
    except UsageError:
        raise
    except InnverseError:
        return "pnp"  # solve will say what is wrong


def _solve(
    batch: list[Job],
    by: Callable[..., Reconstruction],
    priors: Priors,
    device: torch.device,
    call: dict[str, Any],
    failed: Failed,
) -> list[tuple[list[Job], Reconstruction]]:
    """The jobs that could be solved side by side, with their result."""
    measured = [job.known for job in batch]
    y = torch.cat([one.y for one in measured]).to(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolveWarning)  # they are in the notes
            result = by(y, measured[0].physics.to(device), priors.of(measured[0]), **call)
    except UsageError:
        raise
    except (InnverseError, MemoryError, RuntimeError) as error:
        if not isinstance(error, InnverseError) and not is_out_of_memory(error):
            raise
        if len(batch) > 1:  # one of them spoils the batch: find out which
            return [
                pair for job in batch for pair in _solve([job], by, priors, device, call, failed)
            ]
        words = str(error) if isinstance(error, InnverseError) else _NO_MEMORY
        failed(batch, InputError(f"{batch[0].label}: {words}"))
        return []
    return [(batch, result)]


_NO_MEMORY = "does not fit in memory; use method pnp with tile 256, or shrink the picture"
