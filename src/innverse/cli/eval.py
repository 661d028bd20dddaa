"""``innverse eval``: how well pictures are restored that were measured in a known way."""

# annotations are values here, not texts: cyclopts makes flags of them

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from ..catalog import METHODS
from ..errors import UsageError
from ..options import OptionError
from ..progress import Progress
from .flags import flags_of, spelled
from .options import Device, Json, Quiet, Seed, load_model, note, print_json, start

if TYPE_CHECKING:
    from ..studies.tasks import Task

app = App(name="eval", help="Measure how well the pictures of a test set are restored.")

Several = Parameter(consume_multiple=True)
Noise = Annotated[
    list[float], Parameter(help="Standard deviation of the noise.", consume_multiple=True)
]
_OF_METHODS: Any = flags_of((METHODS,), without=("sigma",))  # which is a word of `denoise`


@dataclass(kw_only=True)
class Common:
    """Flags that all measurements have."""

    data: Annotated[
        str,
        Parameter(
            help="Folder, tar, .npy/.npz, one image, slices with units (DICOM, TIFF, ...), which have "
            "the range of the model or else their own, or a built-in set (skimage)."
        ),
    ]
    subset: Annotated[
        str | None, Parameter(help="A part of the data, such as a folder in a tar.")
    ] = None
    model: Annotated[str, Parameter(help="Prior, by name or folder.")] = "natural-gray"
    method: Annotated[str, Parameter(help=f"auto, or one of {', '.join(METHODS)}.")] = "auto"
    compare: Annotated[
        Literal["tv"] | None,
        Parameter(help="tv: total variation on the same measurements, beside."),
    ] = None
    seed: Seed = 0
    device: Device = "auto"
    json: Json = False
    quiet: Quiet = False


Flags = Annotated[Common, Parameter(name="*")]
Options = Annotated[_OF_METHODS, Parameter(name="*")]


@app.command
def denoise(
    *,
    sigma: Annotated[list[float], Several],
    flags: Flags,
    options: Options = _OF_METHODS(),
) -> int:
    """Remove Gaussian noise from every image and compare with the clean one.

    innverse eval denoise --data photos/ --sigma 15 25 50

    Parameters
    ----------
    sigma
        Standard deviation of the noise, on the scale of 0 to 255; one or several.
    """
    if flags.method in ("auto", "pnp") and options.views is None:
        options.views = "8"
    return _measure("denoise", flags, options, sigma=sigma)


@app.command
def inpaint(
    *,
    keep: Annotated[list[float], Several] = [0.5],  # noqa: B006
    flags: Flags,
    options: Options = _OF_METHODS(),
) -> int:
    """Remove pixels at random from every image, fill them in, and compare with the clean image.

    innverse eval inpaint --data photos/ --keep 0.5 --compare tv

    Parameters
    ----------
    keep
        Fraction of the pixels that are known; one or several.
    """
    return _measure("inpaint", flags, options, keep=keep)


@app.command
def deblur(
    *,
    kernel: Annotated[list[str], Several] = ["gaussian:1.6"],  # noqa: B006
    noise: Noise = [0.01],  # noqa: B006
    flags: Flags,
    options: Options = _OF_METHODS(),
) -> int:
    """Blur every image, add noise, sharpen it again, and compare with the clean image.

    innverse eval deblur --data photos/ --kernel gaussian:1.6 motion:15:30 --noise 0.01 0.05

    Parameters
    ----------
    kernel
        gaussian:WIDTH, motion:LENGTH:ANGLE, or a file; one or several.
    """
    return _measure("deblur", flags, options, kernel=kernel, noise=noise)


@app.command
def sr(
    *,
    factor: Annotated[list[int], Several] = [2],  # noqa: B006
    noise: Noise = [0.01],  # noqa: B006
    filter: Annotated[list[str], Several] = ["gaussian"],  # noqa: B006
    flags: Flags,
    options: Options = _OF_METHODS(),
) -> int:
    """Shrink every image, enlarge it again (superresolution), and compare with the clean image.

    innverse eval sr --data photos/ --factor 2 3 4

    Parameters
    ----------
    factor
        How many times smaller; one or several.
    filter
        What a pixel is a mean over: gaussian (of deviation factor / 2), bicubic, box or none.
    """
    return _measure("sr", flags, options, factor=factor, noise=noise, filter=filter)


@app.command
def ct(
    *,
    angles: Annotated[list[int], Several] = [60],  # noqa: B006
    photons: Annotated[list[float], Several] = [1e5],  # noqa: B006
    span: Annotated[list[float], Several] = [180.0],  # noqa: B006
    flags: Flags,
    options: Options = _OF_METHODS(),
) -> int:
    """Measure every slice by parallel X-rays, reconstruct it, and compare with the slice.

    innverse eval ct --data slices/ --angles 60 180 --photons 1e4 1e5

    Parameters
    ----------
    angles
        Views; one or several.
    photons
        On each ray before the slice; one or several. Slices are 360 mm wide; water absorbs .02 a
        millimetre, black nothing, and white what 2000 Hounsfield units do, or of slices in these units
        the upper end of their range.
    span
        Degrees over which the views are spread, at most 180.
    """
    return _measure("ct", flags, options, angles=angles, photons=photons, span=span)


@app.command
def mri(
    *,
    acceleration: Annotated[list[float], Several] = [4.0],  # noqa: B006
    coils: Annotated[list[int], Several] = [8],  # noqa: B006
    noise: Noise = [0.01],  # noqa: B006
    flags: Flags,
    options: Options = _OF_METHODS(),
) -> int:
    """Measure some columns of every slice's k-space by several coils, and reconstruct the slice.

    innverse eval mri --data slices/ --acceleration 4 8

    Parameters
    ----------
    acceleration
        1 / fraction of the columns that are measured; one or several.
    coils
        Simulated coils around the slice.
    """
    return _measure("mri", flags, options, acceleration=acceleration, coils=coils, noise=noise)


def _measure(family: str, flags: Common, options: Any, **levels: list) -> int:
    """Every combination of the ``levels`` of a task on every picture, and what came of it."""
    method, given = flags.method, {k: v for k, v in asdict(options).items() if v is not None}
    device = start(flags.device)
    from ..data import open_images
    from ..solvers import solve
    from ..solvers.solve import checked
    from ..studies import tasks

    try:
        checked(method, given)
    except OptionError as error:
        raise spelled(error) from None
    flow = None
    if method == "auto" or METHODS[method].uses_prior:
        flow = load_model(flags.model, device)
        if method in ("auto", "pnp"):
            _check_levels(flow, flags.model, levels.get("sigma", []))
    source = open_images(flags.data, subset=flags.subset, channels=1, deep=True, like=flow)
    for text in source.notes:
        note(f"{flags.data}: {text}", flags.quiet)
    make = getattr(tasks, family)
    if family == "ct" and source.units == tasks.HU:
        make = partial(make, x_range=source.x_range)
    some = [make(**dict(zip(levels, v, strict=True))) for v in itertools.product(*levels.values())]

    def restore(y, physics, report) -> dict[str, Any]:
        found = {"": solve(y, physics, flow, method, progress=report, **given)}
        if flags.compare == "tv":
            found["tv"] = solve(y, physics, method="tv")
        return found

    results = [_scores(task, source, restore, device, flags) for task in some]
    for name, reason in source.failures:
        note(f"left out: {name}: {reason}", flags.quiet)
    if flags.json:
        print_json(results[0] if len(results) == 1 else {"results": results})
    else:
        _show(results, [*levels], f"{family} by {flags.model if flow else method}")
    return 0


def _check_levels(flow, model: str, sigma: list[float]) -> None:
    """Raise UsageError for a flow that knows no noise levels, or not those of ``sigma``."""
    if flow.noise_range is None:
        raise UsageError(
            f"--model {model} is not conditioned on a noise level; take natural-gray, or train one "
            "with noise = [low, high]"
        )
    low, high = flow.noise_range
    for value in sigma:
        if not low <= value / 255 <= high:
            raise UsageError(
                f"--sigma {value:g}: {model} knows noise from {255 * low:.3g} to {255 * high:.3g} "
                "on the scale of 0 to 255"
            )


def _scores(task: "Task", source, restore: Callable[..., dict], device, flags: Common) -> dict:
    """PSNR and SSIM of every restored picture, and their means.

    ``restore(y, physics, report)`` gives the result under the key "", and others under their names.
    """
    import torch

    from ..metrics import psnr8, ssim
    from ..solvers import SolveWarning

    generator = torch.Generator().manual_seed(flags.seed)
    rows: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    with Progress(task.name, len(source), unit="image", quiet=flags.quiet) as progress:
        for k, name in enumerate(source.names):
            progress(k, note=name)
            x = source.unit(k)[None].to(device)
            y, physics = task.measure(x, generator)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SolveWarning)  # of a simulation all is known
                found = restore(y, physics, progress.part(k, k + 1, name))
            row: dict[str, Any] = {"name": name}
            for label, result in found.items():
                small = min(x.shape[-2:]) < 11  # SSIM's window
                score: dict[str, Any] = {
                    "psnr": float(psnr8(result.x, x)),
                    "ssim": None if small else float(ssim(result.x, x)),
                }
                row |= {label: score} if label else score | {"converged": bool(result.converged)}
                seconds[label] = seconds.get(label, 0.0) + result.seconds
            rows.append(row)
    told = {"task": task.name} | task.settings | {"method": found[""].method}
    told |= {"range": source.x_range, "units": source.units}
    told |= _means(rows) | {"n": len(rows), "converged": sum(r["converged"] for r in rows)}
    told |= {"per_image": rows, "seconds": seconds.pop("")}
    return told | {
        label: _means([row[label] for row in rows]) | {"seconds": spent}
        for label, spent in seconds.items()
    }


def _means(rows: list[dict]) -> dict[str, float | None]:
    known = {key: [r[key] for r in rows if r[key] is not None] for key in ("psnr", "ssim")}
    return {key: math.fsum(v) / len(v) if v else None for key, v in known.items()}


def _show(results: list[dict], levels: list[str], title: str) -> None:
    from ..report import Table

    rivals = ["tv"] if "tv" in results[0] else []
    heads = [f"{rival.upper()} {what}" for rival in rivals for what in ("PSNR", "SSIM", "seconds")]
    table = Table([*levels, "images", "method", "PSNR", "SSIM", "seconds", *heads], title=title)
    for r in results:
        level = [f"{r[k]:g}" if isinstance(r[k], float) else str(r[k]) for k in levels]
        row = [*level, r["n"], r["method"], r["psnr"], _share(r), round(r["seconds"], 1)]
        for rival in rivals:
            score = r[rival]
            row += [score["psnr"], _share(score), round(score["seconds"], 1)]
        table.add(*row)
    table.print()


def _share(score: dict) -> str | None:
    return None if score["ssim"] is None else f"{score['ssim']:.3f}"
