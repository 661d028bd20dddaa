"""``innverse solve``: images from degraded measurements, for one file or a folder of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..errors import InnverseError, InputError, UsageError
from ..progress import Progress
from .entry import complain
from .options import (
    Device,
    Json,
    Quiet,
    Seed,
    check_writable,
    load_model,
    note,
    parse_number,
    print_json,
    start,
)

if TYPE_CHECKING:
    from .measurements import Job, Setup

_GRAY, _COLOR = "natural-gray", "natural-color"

# Pixels solved side by side. pnp cuts large batches itself; the others keep all in memory.
_BATCH_PIXELS, _BATCH_PIXELS_PNP = 2**18, 2**22
_CHECKPOINT_PIXELS, _MOST_PIXELS = 2**18, 2**22

Method = Literal[
    "auto", "pnp", "latent", "map", "posterior", "constrained", "adaptive", "deep_decoder", "lasso",
    "tv",
]  # fmt: skip

Start = Literal[
    "zero", "random", "sphere", "pseudo_inverse", "null_space", "data", "latent"
]  # fmt: skip


def solve(
    files: Annotated[list[str], Parameter(negative=())],
    /,
    *,
    physics: str,
    out: Path,
    simulate: bool = False,
    mask: Path | None = None,
    keep: float | None = None,
    kernel: str | None = None,
    boundary: Literal["reflect", "replicate", "circular", "zero", "valid"] | None = None,
    factor: int | None = None,
    ratio: float | None = None,
    acceleration: float | None = None,
    noise: str | None = None,
    range_: Annotated[str | None, Parameter(name="--range")] = None,
    image_shape: str | None = None,
    prior: str | None = None,
    method: Method = "auto",
    steps: int | None = None,
    sigma: str | None = None,
    gamma: float | None = None,
    beta: float | None = None,
    first: Annotated[Start | None, Parameter(name="--start")] = None,
    restarts: int | None = None,
    lam: float | None = None,
    basis: Literal["dct", "haar", "db2"] | None = None,
    shifts: int | None = None,
    tile: str = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Reconstruct images from degraded measurements with an invertible prior.

    innverse solve photo.png --physics inpainting --mask mask.png --out result
    innverse solve grainy.jpg --physics denoising --noise 25/255 --out result
    innverse solve small/ --physics downsampling --factor 2 --out large
    innverse solve clean.png --simulate --physics blur --kernel motion:15:30 --out r

    Each file gives result.png, panel.png (side by side) and result.json: in --out,
    or for several files in a folder of their name below it. Exit code 3 if a result
    did not converge, 4 if a file could not be used.

    Parameters
    ----------
    files
        Pictures of any size and kind, folders of them, or .npy measurements.
    physics
        denoising, inpainting, blur, downsampling, compressed_sensing or fourier.
    out
        Folder for the results.
    simulate
        The files are clean: degrade them first, and report PSNR and SSIM.
    mask
        Picture of the photograph's size, black = missing (inpainting), or of the measured
        frequencies (fourier).
    keep
        Fraction of pixels kept at random, instead of a mask (inpainting with --simulate).
    kernel
        gaussian:WIDTH, motion:LENGTH:ANGLE, a picture or a .npy (blur).
    boundary
        What lies beyond the border (blur, downsampling). [default: reflect]
    factor
        How many times smaller the measurement is (downsampling). [default: 2]
    ratio
        Measurements per pixel (compressed_sensing). [default: 0.2]
    acceleration
        1 / fraction of measured columns (fourier). [default: 4]
    noise
        Standard deviation of the noise, images being 0 to 1 (or of --range): 0.05 or 25/255; auto
        estimates it from the file. [default: none]
    range_
        LOW:HIGH, the values that stand for black and white in .npy measurements and float TIFFs
        that are not from 0 to 1: 0:255 or -1000:1000. The result is saved with them as result.npy.
    image_shape
        CxHxW of the image behind a .npy measurement.
    prior
        Model by name or folder. [default: natural-color or natural-gray]
    method
        auto chooses by operator, gaps, size, noise and prior, and says why; pnp (the prior's
        denoiser, any size), latent, map, constrained (exact measurements) or adaptive (the prior
        is tuned too); without a prior deep_decoder, lasso or tv. [default: auto]
    steps
        Iterations. [default: 45 for pnp, 150 for latent, 200 for map, 200 for constrained,
        500 for lasso, 400 for tv, 2000 for deep_decoder]
    sigma
        Noise level at which the prior is used last. [default: that of the measurement for pnp,
        0.01 to 0.04 for latent and map: the fewer data, the higher]
    gamma
        Weight of ||z|| (latent, adaptive). [default: 0]
    beta
        Weight of log p(x) (map). [default: 1]
    first
        Where the search starts: latent and adaptive know zero, random, sphere, pseudo_inverse and
        null_space; map knows data and latent (a latent search first). [default: zero for latent,
        what suits the problem for map]
    restarts
        Searches from so many random latents, of which the best counts (latent, adaptive).
        [default: 1]
    lam
        Weight of the penalty (lasso, tv). [default: what suits operator and noise]
    basis
        Where the image is sparse: dct, or the wavelets haar or db2 (lasso). [default: dct]
    shifts
        Views that the last denoising averages, 1 to 16 (pnp). [default: 4]
    tile
        Side of the tiles for large pictures (pnp): auto, a number or none.
    """
    given = {
        "mask": mask, "keep": keep, "kernel": kernel, "boundary": boundary, "factor": factor,
        "ratio": ratio, "acceleration": acceleration,
    }  # fmt: skip
    options = {key: value for key, value in given.items() if value is not None}
    settings: dict[str, Any] = {
        "steps": steps,
        "sigma": None if sigma is None else parse_number(sigma, "--sigma"),
        "gamma": gamma,
        "beta": beta,
        "start": first,
        "restarts": restarts,
        "lam": lam,
        "basis": basis,
        "shifts": shifts,
        "tile": _tile(tile),
    }
    asked = [k for k, v in settings.items() if v is not None and k != "tile"]
    level = noise if noise in (None, "auto") else parse_number(noise, "--noise")
    span = None if range_ is None else _range(range_)
    if simulate and (noise == "auto" or range_ is not None):
        option = "--noise auto" if noise == "auto" else "--range"
        raise UsageError(f"{option} is for real measurements: with --simulate give a number")
    shape = None if image_shape is None else _shape(image_shape)
    check_writable(out)

    target = start(device)
    from ..solvers import options as method_options
    from ..solvers.arguments import check_arguments
    from .measurements import Setup, find_files

    try:
        check_arguments({k: v for k, v in settings.items() if v is not None})
    except UsageError as error:
        raise UsageError(f"--{error}") from None
    setup = Setup(physics, options, level, simulate, seed, shape, x_range=span)
    jobs = find_files(files)
    single = len(jobs) == 1 and not Path(files[0]).is_dir()
    priors = _Priors(prior, target)
    for job in jobs:
        _prepare(job, setup, priors)
    summaries: dict[str, dict] = {}
    with Progress("solving", quiet=quiet) as progress:
        groups = _batches(jobs, priors, method, asked)
        sizes = [sum(job.y.numel() for job in batch) for batch, _ in groups]
        progress.total = sum(sizes)
        for number, (batch, way) in enumerate(groups):
            before = sum(sizes[:number])
            text = "" if len(groups) == 1 else f"batch {number + 1} of {len(groups)}"
            told = progress.part(before, before + sizes[number], text)
            usable = {k: v for k, v in settings.items() if k in method_options(method)}
            if strange := [name for name in asked if name not in usable]:
                raise UsageError(f"--{strange[0]} means nothing to --method {method}")
            if way not in (method, "pnp"):
                usable.pop("tile", None)  # which the user did not ask for
            call = usable | {"method": method, "progress": told, "x_range": span}
            call |= {"noise": level} if level == "auto" else {}
            summaries |= _solve_batch(batch, setup, priors, target, call, out, single)

    done = [summaries[job.name] for job in jobs if job.name in summaries]
    failed = [job for job in jobs if job.failure]
    if json:
        results = [{k: v for k, v in s.items() if k != "trace"} for s in done]
        failures = [{"file": str(job.path), "reason": job.failure} for job in failed]
        print_json({"results": results, "failures": failures})
    elif done:
        _table(done).print()
    if not quiet:
        for job in jobs:
            for text in job.picture.notes if job.picture is not None else ():
                note(f"{job.path}: {text}")
            for text in summaries.get(job.name, {}).get("notes", ()):
                note(f"{job.path}: {text}")
    for summary in done:
        if not summary["converged"]:
            words = summary["status"].replace("max_iter", "not converged: all --steps were used")
            complain(f"{summary['file']}: {words}")
    if failed and not single:
        complain(f"{len(failed)} of {len(jobs)} files failed:")
    for job in failed:
        complain(job.failure)
    return 4 if failed else 3 if not all(s["converged"] for s in done) else 0


class _Priors:
    """The models in use, each loaded once."""

    def __init__(self, name: str | None, device):
        self.name, self.device, self.loaded = name, device, {}

    def choose(self, channels: int) -> tuple[str, int]:
        """(name, channels) of the prior for images of this many channels."""
        name = self.name or self._default(channels)
        if name not in self.loaded:
            flow = load_model(name, self.device)
            if len(flow.shape) != 3:
                raise UsageError(f"--prior {name} is no model of images; choose another")
            self.loaded[name] = flow
        return name, self.loaded[name].shape[0]

    def _default(self, channels: int) -> str:
        from ..zoo import names

        shipped = names()
        for name in (_COLOR, _GRAY) if channels == 3 else (_GRAY,):
            if name in shipped:
                return name
        raise UsageError("no prior is shipped with this installation; give --prior FOLDER")


def _prepare(job: Job, setup: Setup, priors: _Priors) -> None:
    from .measurements import failure, prepare

    try:
        prepare(job, setup, priors.choose)
    except UsageError:
        raise
    except InputError as error:
        failure(job, error)


def _batches(
    jobs: list[Job], priors: _Priors, method: str, asked: list[str]
) -> list[tuple[list[Job], str]]:
    """Jobs of equal size together, as many as memory allows; each with its method."""
    from .measurements import failure

    groups: dict[tuple, list[Job]] = {}
    for job in jobs:
        if job.y is not None:
            key = (job.prior, tuple(job.y.shape[1:]), job.physics.image_shape)
            groups.setdefault(key, []).append(job)
    batches: list[tuple[list[Job], str]] = []
    for (name, _, shape), members in groups.items():
        flow = priors.loaded[name]
        way = _way(members[0], flow, asked) if method == "auto" else method
        plane = shape[-2] * shape[-1]
        if way != "pnp":
            if plane > _MOST_PIXELS:
                for job in members:
                    reason = (
                        f"{job.path}: {shape[-1]}x{shape[-2]} pixels are too many for --method "
                        f"{way}, which keeps the whole picture in memory; use pnp, which tiles"
                    )
                    failure(job, InputError(reason))
                continue
            if plane > _CHECKPOINT_PIXELS:
                from ..bijections import set_memory

                set_memory(flow, "checkpoint")
        room = max(1, (_BATCH_PIXELS_PNP if way == "pnp" else _BATCH_PIXELS) // plane)
        batch: list[Job] = []
        for job in members:
            if batch and sum(j.planes for j in batch) + job.planes > room:
                batches.append((batch, way))
                batch = []
            batch.append(job)
        batches.append((batch, way))
    return batches


def _way(job: Job, flow, asked: list[str]) -> str:
    """What ``--method auto`` takes for a job, whose memory it decides."""
    from ..solvers import method_for

    try:
        return method_for(job.y, job.physics, flow, asked=asked)
    except UsageError:
        raise
    except InnverseError:
        return "pnp"  # solve will say what is wrong


def _solve_batch(
    batch: list[Job],
    setup: Setup,
    priors: _Priors,
    device,
    call: dict[str, Any],
    out: Path,
    single: bool,
) -> dict[str, dict]:
    """Solve jobs side by side and write their results: {name: summary}."""
    import warnings

    import torch

    from ..solvers import SolveWarning
    from ..solvers import solve as run
    from .measurements import failure
    from .results import write_result

    y = torch.cat([job.y for job in batch]).to(device)
    physics = batch[0].physics.to(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolveWarning)  # they are in the result's notes
            result = run(y, physics, priors.loaded[batch[0].prior], **call)
    except UsageError:
        raise
    except (InnverseError, MemoryError, RuntimeError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        if len(batch) == 1:
            failure(batch[0], InputError(f"{batch[0].path}: {reason}"))
            return {}
        found = {}
        for job in batch:  # one of them spoils the batch: find out which
            found |= _solve_batch([job], setup, priors, device, call, out, single)
        return found
    summaries, first = {}, 0
    for job in batch:
        rows = slice(first, first + job.planes)
        first += job.planes
        folder = out if single else out / job.name
        seconds = result.seconds * job.planes / len(y)
        summary = write_result(job, setup, result, rows, seconds, folder)
        summaries[job.name] = summary | {"folder": str(folder)}
    return summaries


def _reason(error: BaseException) -> str | None:
    """What to tell a user whose file cannot be solved; None for a fault of the program."""
    if isinstance(error, InnverseError):
        return str(error)
    if isinstance(error, MemoryError) or "memory" in str(error):
        return "does not fit in memory; use --method pnp with --tile 256, or shrink the picture"
    return None


def _table(summaries: list[dict]):
    from ..report import Table

    simulated = summaries[0]["simulated"]
    quality = ["degraded dB", "result dB", "SSIM"] if simulated else []
    table = Table(["file", "size", *quality, "misfit", "s", "written to"])
    for s in summaries:
        _, h, w = s["size"]
        numbers = []
        if simulated:
            ssim = s["result"]["ssim"]
            numbers = [s["degraded"]["psnr"], s["result"]["psnr"]]
            numbers.append(None if ssim is None else f"{ssim:.3f}")
        table.add(
            Path(s["file"]).name, f"{w}x{h}", *numbers, f"{s['residual']:.1e}", s["seconds"],
            s["folder"],
        )  # fmt: skip
    return table


def _tile(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    if not (text.isascii() and text.isdigit() and int(text) >= 96):
        raise UsageError(f"--tile {text}: give auto, none, or a side of at least 96 pixels")
    return int(text)


def _range(text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    if colon:
        values = parse_number(low, "--range"), parse_number(high, "--range")
        if values[0] < values[1]:
            return values
    raise UsageError(f"--range {text}: give the values of black and white as LOW:HIGH, 0:255")


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.lower().replace(",", "x").split("x")
    if len(parts) == 3 and all(p.isascii() and p.isdigit() and int(p) > 0 for p in parts):
        c, h, w = map(int, parts)
        if c in (1, 3):
            return c, h, w
    raise UsageError(f"--image-shape {text}: give CHANNELSxHEIGHTxWIDTH, such as 1x64x64")
