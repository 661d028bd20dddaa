"""What `restore` says and leaves of one input: a summary, result.png, panel.png and result.json,
and of a posterior its error bars."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from .. import __version__
from ..data import atomic_write, write_image, write_json
from ..errors import InnverseError
from ..metrics import psnr, ssim
from ..report import Heat, panel
from ..solvers.reconstruction import Reconstruction
from . import error_bars
from .jobs import Job, Measured
from .page import make_page
from .setting import Setting
from .slices import Slice, titled, write_values


@dataclass
class Restored:
    """The result of one input.

    Attributes:
        source: the path, or "array-1", ...
        image: (C, H, W), on [0, 1] or ``x_range``; None where the input could not be used.
        std, draws: of ``method="posterior"``: the spread (C, H, W), and draws (S, C, H, W).
        status, converged, notes: as of a `Reconstruction`.
        beside: {method: image} of methods that it is compared with.
        summary: all of it as JSON knows it, with settings and quality.
        files: what was written.
        interval: of ``method="posterior"`` and of slices, the ends (C, H, W) of 90 % intervals.
        x_range: the values of black and white, where they are not 0 and 1.
        error: why there is no image.
    """

    source: str
    image: Tensor | None = None
    std: Tensor | None = None
    draws: Tensor | None = None
    status: str = ""
    converged: bool = False
    notes: list[str] = field(default_factory=list)
    beside: dict[str, Tensor] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    interval: tuple[Tensor, Tensor] | None = None
    x_range: tuple[float, float] | None = None
    shown: list[tuple] = field(default_factory=list, repr=False)
    error: InnverseError | None = None


def result_of(
    job: Job, measured: Measured, setting: Setting, result: Reconstruction, rows: slice
) -> Restored:
    """The result of a job whose problems are the ``rows`` of a batch."""
    x = measured.image(result.x[rows].detach().float().cpu())
    share = measured.planes / len(result.x)
    found = Restored(
        job.label,
        image=x[0],
        status="; ".join(dict.fromkeys(result.status[rows])),
        converged=bool(result.converged[rows].all()),
        notes=list(dict.fromkeys(text for row in result.notes[rows] for text in row)),
        x_range=measured.x_range,
    )
    shown, scan = _unit(x, measured), measured.scan
    if scan is not None:
        found.notes = [*scan.notes, *found.notes]
    found.summary = {
        "innverse": __version__,
        "file": job.label,
        "input": _describe_input(job, measured),
        "physics": setting.describe(),
        "simulated": setting.simulate,
        "seed": setting.seed,
        "prior": measured.prior or None,
        "method": result.method,
        "options": result.options,
        "reason": result.reason,
        "notes": found.notes,
        "noise": _level(result.noise, rows),
        "noise_ratio": _level(result.noise_ratio, rows),
        "range": measured.x_range,
        "units": job.source.stack.units if isinstance(job.source, Slice) else "",
        "unit": None if scan is None else scan.unit,
        "seconds": share * result.seconds,
        "converged": found.converged,
        "status": found.status,
        "residual": float(result.residual[rows].square().mean().sqrt()),
        "log_prob": None if result.log_prob is None else float(result.log_prob[rows].sum()),
        "evaluations": int(result.evaluations[rows].sum()),
        "degraded": None,
        "result": None,
        "image": "result.png",
        "size": list(x.shape[1:]),
        "trace": [_of_item(step, rows, len(result.x)) for step in result.trace],
    }
    if measured.clean is not None:
        truth = measured.unit(measured.clean)
        found.summary["degraded"] = _quality(_comparable(measured.seen(), truth), truth)
        found.summary["result"] = _quality(shown, truth)
    if result.samples is not None and result.std is not None:
        draws, std = result.samples[:, rows].float(), result.std[rows].float()
        clean = None if measured.clean is None else measured.image(measured.clean)
        found.summary["posterior"] = error_bars.describe(result, rows, draws, std, clean)
        draws = draws.cpu()
        low, high = (end[rows].float().cpu() for end in result.interval(error_bars.LEVEL))
        found.interval = measured.image(low)[0], measured.image(high)[0]
        found.draws = draws[:, 0] if measured.planes == 1 else draws.flatten(1, 2)
        found.std = measured.image(std.cpu())[0]
    return found


def keep_slice(found: Restored, measured: Measured, source: Slice) -> None:
    """Of one slice of many what their files will need: pictures for the panel, no draws."""
    if found.image is not None:
        pictures = _pictures(found, measured, _unit(found.image[None], measured))
        found.shown = titled(pictures, str(source.number))
    found.draws = None


def compare(found: Restored, measured: Measured, other: Reconstruction) -> None:
    """Put what another method found beside a result."""
    x = measured.image(other.x.detach().float().cpu())
    clean = measured.clean
    quality = {} if clean is None else _quality(_unit(x, measured), measured.unit(clean))
    found.beside[other.method] = x[0]
    told = {"seconds": other.seconds, "status": "; ".join(dict.fromkeys(other.status))}
    found.summary.setdefault("beside", {})[other.method] = quality | told


def write(found: Restored, job: Job, measured: Measured, setting: Setting, folder: Path) -> None:
    """Write the files of a result."""
    image = found.image
    if image is None:
        return
    x, summary = _unit(image[None], measured), found.summary
    pictures = _pictures(found, measured, x)
    if isinstance(job.source, Slice):
        found.files += write_values(folder, job.source.stack, [found])
    if found.std is not None and found.draws is not None:
        unit = _unit(found.draws, measured)
        given = (image, found.std, found.draws, unit)
        found.files += error_bars.write(folder, summary["posterior"], *given)
        page = make_page(summary, pictures, unit)
        found.files.append(page.save(folder / "report.html"))
    deep = measured.picture is not None and measured.picture.bits > 8 and x.shape[1] == 1
    found.files.append(write_image(folder / "result.png", x, bits=16 if deep else 8))
    found.files.append(write_image(folder / "panel.png", panel(pictures)))
    unit = 1.0 if measured.scan is None else measured.scan.unit
    kept = folder / "result.npy" in found.files
    if (measured.x_range is not None or unit != 1) and not kept:
        values = unit * image.numpy()
        found.files.append(atomic_write(folder / "result.npy", lambda file: np.save(file, values)))
    # last: its presence says that all is there
    found.files.append(write_json(folder / "result.json", summary))


def _pictures(found: Restored, measured: Measured, x: Tensor) -> list[tuple]:
    """What the panel shows: of a posterior also its error bar, and if the truth is known its error.

    No times: the same work leaves the same picture.
    """
    seen, summary = measured.seen(), found.summary
    name = "result" if found.std is None else "mean of the draws"
    first = "input" if measured.physics.measures_images else "without a prior"
    truth = "clean" if measured.scan is None else "all data, without a prior"
    pictures = [
        (first, _caption(summary["degraded"]), _enlarge(seen, x)[0]),
        (name, _caption(summary["result"]), x[0]),
    ]
    for other, picture in found.beside.items():
        told = summary["beside"][other]
        quality = _caption(told if "psnr" in told else None)
        pictures.insert(-1, (other, quality, _unit(picture[None], measured)[0]))
    bar = None if found.std is None else Heat(found.std)
    if bar is not None:
        pictures.append((f"std of {summary['posterior']['quantity_of_mean']}", "", bar))
    if measured.clean is not None:
        pictures.append((truth, "", measured.unit(measured.clean)[0]))
        if bar is not None and found.image is not None:
            error = (found.image - measured.clean[0]).abs()
            pictures.append(("error of the mean", "", Heat(error, bar.high)))
    return pictures


def _unit(x: Tensor, measured: Measured) -> Tensor:
    """On [0, 1]. A result that failed is shown all the same, and its status says so."""
    return measured.unit(x).nan_to_num(0.5, 1.0, 0.0)


def _level(value: Tensor | None, rows: slice) -> float | None:
    return None if value is None else float(value[rows].square().mean().sqrt())


def _describe_input(job: Job, measured: Measured) -> dict[str, Any]:
    if isinstance(job.source, Slice):
        stack = job.source.stack
        return {
            "width": stack.size[1],
            "height": stack.size[0],
            "channels": stack.values.shape[1],
            "type": str(stack.values.dtype),
            "slice": stack.names[job.source.index] if stack.names else job.source.number,
            "notes": list(stack.notes),
        }
    if measured.picture is None:
        return {"shape": list(measured.y.shape[1:])}
    height, width = measured.picture.size
    return {
        "width": width,
        "height": height,
        "channels": measured.picture.channels,
        "mode": measured.picture.mode,
        "bits": measured.picture.bits,
        "notes": list(measured.picture.notes),
    }


def _of_item(step: dict[str, Any], rows: slice, batch: int) -> dict[str, Any]:
    """One step of the trace, for one job: per-item lists are cut to its rows."""
    cut = {}
    for key, value in step.items():
        if isinstance(value, list) and len(value) == batch:
            value = value[rows]
            value = value[0] if len(value) == 1 else value
        cut[key] = value
    return cut


def _quality(x: Tensor, clean: Tensor) -> dict[str, float | None]:
    small = min(clean.shape[-2:]) < 11  # SSIM's window
    return {
        "psnr": float(psnr(x, clean)),
        "ssim": None if small else float(ssim(x, clean)),
    }


def _comparable(seen: Tensor, clean: Tensor) -> Tensor:
    """The measurement at the size of the image: small ones are enlarged smoothly."""
    if seen.shape == clean.shape:
        return seen
    return F.interpolate(
        seen, clean.shape[-2:], mode="bicubic", align_corners=False, antialias=False
    )


def _enlarge(seen: Tensor, x: Tensor) -> Tensor:
    """The input at about the size of the result, its pixels still visible."""
    factor = max(1, round(x.shape[-1] / seen.shape[-1]))
    return seen.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def _caption(quality: dict[str, float] | None) -> str:
    if quality is None:
        return ""
    text = "equal" if math.isinf(quality["psnr"]) else f"{quality['psnr']:.2f} dB"
    return text if quality["ssim"] is None else f"{text}, SSIM {quality['ssim']:.3f}"
