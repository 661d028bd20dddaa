"""``innverse eval``: how well a model denoises or inpaints a set of test images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from ..catalog import METHODS
from ..errors import UsageError
from ..options import OptionError
from ..progress import Progress, Report
from .flags import spelled
from .options import Device, Json, Quiet, Seed, load_model, note, print_json, start

if TYPE_CHECKING:
    from torch import Tensor

app = App(name="eval", help="Measure a model on a test set.")

Data = Annotated[
    str, Parameter(help="Folder, tar, .npy/.npz, one image, or a built-in set (skimage).")
]
Subset = Annotated[str | None, Parameter(help="A part of the data, such as a folder in a tar.")]
_VIEWS = METHODS.declared("pnp").declared["views"]
VIEWS = Parameter(help=_VIEWS.help)
Model = Annotated[str, Parameter(help="Name or folder of a noise-conditional flow.")]


@app.command
def denoise(
    *,
    data: Data,
    sigma: Annotated[list[float], Parameter(consume_multiple=True)],
    subset: Subset = None,
    model: Model = "natural-gray",
    views: Annotated[int, VIEWS] = 8,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Remove Gaussian noise from every image and compare with the clean one.

    innverse eval denoise --data photos/ --sigma 15 25 50

    Parameters
    ----------
    sigma
        Standard deviation of the noise, on the scale of 0 to 255; one or several.
    """
    flow, source, chosen = _prepare(model, data, subset, views, device)
    low, high = flow.noise_range
    for value in sigma:
        if not low <= value / 255 <= high:
            raise UsageError(
                f"--sigma {value:g}: {model} knows noise from {255 * low:.3g} to {255 * high:.3g} "
                "on the scale of 0 to 255"
            )
    import torch

    from ..solvers.tiling import denoise_tiled

    results = []
    for value in sigma:
        generator = torch.Generator().manual_seed(seed)

        def restore(x, report, value=value, generator=generator) -> dict[str, Tensor]:
            noise = torch.randn(x.shape, generator=generator).to(x.device)
            level = torch.full((1,), value / 255, device=x.device)
            y = x + level * noise
            return {"": denoise_tiled(flow, y, level, range(views), report=report)}

        title = f"denoising, sigma {value:g}"
        results.append({"sigma": value} | _measure(source, restore, chosen, title, quiet))
    _show(results, "sigma", json, f"denoising by {model}")
    return 0


@app.command
def inpaint(
    *,
    data: Data,
    keep: Annotated[list[float], Parameter(consume_multiple=True)] = [0.5],  # noqa: B006
    compare: Literal["tv"] | None = None,
    subset: Subset = None,
    model: Model = "natural-gray",
    steps: int | None = None,
    views: Annotated[int, VIEWS] = 4,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Remove pixels at random from every image, fill them in, and compare with the clean image.

    innverse eval inpaint --data photos/ --keep 0.5 --compare tv

    Parameters
    ----------
    keep
        Fraction of the pixels that are known; one or several.
    compare
        tv: total variation on the same measurements, beside.
    steps
        Iterations of the plug-and-play solver.
    """
    flow, source, chosen = _prepare(model, data, subset, views, device)
    import torch

    from ..physics import Inpainting
    from ..solvers import solve
    from ..solvers.baselines import tv

    results = []
    for fraction in keep:
        generator = torch.Generator().manual_seed(seed)

        def restore(x, report, fraction=fraction, generator=generator) -> dict[str, Any]:
            physics = Inpainting.random(tuple(x.shape[1:]), fraction, generator).to(x.device)
            y = physics(x)
            result = solve(y, physics, flow, "pnp", progress=report, steps=steps, views=views)
            found: dict[str, Any] = {"": result.x}
            if compare == "tv":
                started = time.perf_counter()
                found["tv"] = tv(y, physics)
                found["tv seconds"] = time.perf_counter() - started
            return found

        title = f"inpainting, {fraction:g} known"
        results.append({"keep": fraction} | _measure(source, restore, chosen, title, quiet))
    _show(results, "keep", json, f"inpainting by {model}")
    return 0


def _prepare(model: str, data: str, subset: str | None, views: int, device: str):
    """The flow, the pictures in its colours, and the device.

    Raises:
        UsageError: a flow that knows no noise level, or too many views.
    """
    try:
        _VIEWS.check(views)
    except OptionError as error:
        raise spelled(error) from None
    chosen = start(device)
    flow = load_model(model, chosen)
    if flow.noise_range is None:
        raise UsageError(
            f"--model {model} is not conditioned on a noise level; take natural-gray, or train one "
            "with noise = [low, high]"
        )
    from ..data import open_images

    return flow, open_images(data, subset=subset, channels=flow.shape[0]), chosen


def _measure(
    source, restore: Callable[[Tensor, Report], dict[str, Any]], device, title: str, quiet: bool
) -> dict:
    """PSNR and SSIM of every restored image, and their means.

    ``restore(x, report)`` gives the result under the key "", and others under their names.
    """
    from ..metrics import psnr8, ssim

    rows, seconds, rival_seconds = [], 0.0, 0.0
    with Progress(title, len(source), unit="image", quiet=quiet) as progress:
        for k, name in enumerate(source.names):
            progress(k, note=name)
            x = source[k].float()[None].to(device) / 255
            started = time.perf_counter()
            found = restore(x, progress.part(k, k + 1, name))
            spent = time.perf_counter() - started
            rival = found.pop("tv seconds", 0.0)
            seconds, rival_seconds = seconds + spent - rival, rival_seconds + rival
            row: dict[str, Any] = {"name": name}
            for label, image in found.items():
                score = {"psnr": float(psnr8(image, x)), "ssim": float(ssim(image, x))}
                row |= {label: score} if label else score
            rows.append(row)
    for name, reason in source.failures:
        note(f"left out: {name}: {reason}", quiet)
    result = _means(rows) | {"n": len(rows), "per_image": rows, "seconds": seconds}
    if "tv" in rows[0]:
        result["tv"] = _means([row["tv"] for row in rows]) | {"seconds": rival_seconds}
    return result


def _means(rows: list[dict]) -> dict[str, float]:
    return {key: math.fsum(r[key] for r in rows) / len(rows) for key in ("psnr", "ssim")}


def _show(results: list[dict], variable: str, json: bool, title: str) -> None:
    if json:
        print_json(results[0] if len(results) == 1 else {"results": results})
        return
    from ..report import Table

    rival = "tv" in results[0]
    table = Table([variable, "images", "PSNR", "SSIM", "seconds"], title=title)
    if rival:
        table.headers = [*table.headers, "TV PSNR", "TV SSIM", "TV seconds"]
    for r in results:
        row = [f"{r[variable]:g}", r["n"], r["psnr"], f"{r['ssim']:.3f}", round(r["seconds"], 1)]
        if rival:
            row += [r["tv"]["psnr"], f"{r['tv']['ssim']:.3f}", round(r["tv"]["seconds"], 1)]
        table.add(*row)
    table.print()
