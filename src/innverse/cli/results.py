"""What ``innverse solve`` leaves of one file: result.png, panel.png and result.json."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from .. import __version__
from ..data import atomic_write, write_image, write_json
from ..metrics import psnr, ssim
from ..report import panel
from .measurements import Job, Setup


def write_result(job: Job, setup: Setup, result, rows: slice, seconds: float, folder: Path):
    """Write the files of one job whose problems are the ``rows`` of a batch; returns the summary.

    ``result`` is the `Reconstruction` of the batch, ``seconds`` this job's share of its time.
    """
    x = job.image(result.x[rows].detach().float().cpu())
    values = x
    if setup.x_range is not None:
        low, high = setup.x_range
        x = (x - low) / (high - low)
    # a result that failed is shown all the same, and its status says so
    x = x.nan_to_num(0.5, 1.0, 0.0)
    status = list(dict.fromkeys(result.status[rows]))
    summary: dict[str, Any] = {
        "innverse": __version__,
        "file": str(job.path),
        "input": _describe_input(job),
        "physics": setup.describe(),
        "simulated": setup.simulate,
        "seed": setup.seed,
        "prior": job.prior,
        "method": result.method,
        "reason": result.reason,
        "notes": list(dict.fromkeys(text for row in result.notes[rows] for text in row)),
        "noise": _level(result.noise, rows),
        "noise_ratio": _level(result.noise_ratio, rows),
        "range": setup.x_range,
        "seconds": seconds,
        "converged": bool(result.converged[rows].all()),
        "status": "; ".join(status),
        "residual": float(result.residual[rows].square().mean().sqrt()),
        "log_prob": None if result.log_prob is None else float(result.log_prob[rows].sum()),
        "evaluations": int(result.evaluations[rows].sum()),
        "degraded": None,
        "result": None,
        "image": "result.png",
        "size": list(x.shape[1:]),
        "trace": [_of_item(step, rows, len(result.x)) for step in result.trace],
    }
    shown = _enlarge(job.seen, x)
    if job.clean is not None:
        summary["degraded"] = _quality(_comparable(job.seen, job.clean), job.clean)
        summary["result"] = _quality(x, job.clean)
    pictures = [
        ("input", _caption(summary["degraded"]), shown[0]),
        ("result", _caption(summary["result"]) or f"{seconds:.1f} s", x[0]),
    ]
    if job.clean is not None:
        pictures.append(("clean", "", job.clean[0]))
    deep = job.picture is not None and job.picture.bits > 8 and x.shape[1] == 1
    write_image(folder / "result.png", x, bits=16 if deep else 8)
    buffer = io.BytesIO()
    panel(pictures).save(buffer, "PNG")
    atomic_write(folder / "panel.png", buffer.getvalue())
    if setup.x_range is not None:
        atomic_write(folder / "result.npy", lambda file: np.save(file, values[0].numpy()))
    write_json(folder / "result.json", summary)  # last: its presence says that all is there
    return summary


def _level(value: Tensor | None, rows: slice) -> float | None:
    return None if value is None else float(value[rows].square().mean().sqrt())


def _describe_input(job: Job) -> dict[str, Any]:
    if job.picture is None:
        return {"shape": list(job.y.shape[1:])}
    height, width = job.picture.size
    return {
        "width": width,
        "height": height,
        "channels": job.picture.channels,
        "mode": job.picture.mode,
        "bits": job.picture.bits,
        "notes": list(job.picture.notes),
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


def _caption(quality: dict[str, float | None] | None) -> str:
    if quality is None:
        return ""
    text = "equal" if math.isinf(quality["psnr"]) else f"{quality['psnr']:.2f} dB"
    return text if quality["ssim"] is None else f"{text}, SSIM {quality['ssim']:.3f}"
