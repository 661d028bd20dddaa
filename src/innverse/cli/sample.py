"""``innverse sample``: draw from a model."""

from __future__ import annotations

import io
from pathlib import Path

from ..errors import UsageError
from .options import (
    Device,
    Json,
    Quiet,
    Seed,
    check_writable,
    load_model,
    noise_level,
    parse_number,
    parse_size,
    print_json,
    start,
)
from .progress import progress_bar

_BATCH_PIXELS = 2**19


def sample(
    model: str,
    /,
    *,
    n: int = 16,
    out: Path | None = None,
    temperature: float = 1.0,
    sigma: str | None = None,
    size: str | None = None,
    grid: bool = False,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Draw images from a model.

    innverse sample natural-gray --size 96x128 --temperature 0.7 --out samples.png
    innverse sample runs/digits/model --n 1000 --out samples.npy

    Parameters
    ----------
    model
        Name of a shipped model, or a folder with a saved one.
    n
        How many.
    out
        A picture (all in one grid), a .npy (exact float32 values), or a folder (a file for each
        draw). [default: samples.png, or samples.npy for models of vectors]
    temperature
        Scale of the latent's standard deviation; below 1 draws are more typical.
    sigma
        Noise level, for models that are conditioned on one. [default: the lowest]
    size
        HxW of the images, for convolutional models. [default: that of training]
    grid
        With a folder as --out: also write all draws as grid.png.
    """
    if n < 1:
        raise UsageError(f"--n {n}: must be at least 1")
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"--temperature {temperature:g}: must be a finite number >= 0")
    asked = None if size is None else parse_size(size)
    level_asked = None if sigma is None else parse_number(sigma, "--sigma")
    if out is not None:
        _check_out(out)

    target = start(device)
    import torch

    from ..data import atomic_write, write_image
    from ..report import grid as draw_grid

    flow = load_model(model, target)
    images = len(flow.shape) == 3 and flow.shape[0] in (1, 3)
    if flow.condition:
        raise UsageError(
            f"{model} is conditioned on {flow.condition} numbers: sample it from Python, "
            "flow.sample(n, c)"
        )
    if out is None:
        out = Path("samples.png" if images else "samples.npy")
        _check_out(out)
    if not images and out.suffix.lower() != ".npy":
        raise UsageError(f"{model} is no model of images: give --out FILE.npy")
    if asked is not None and (len(flow.shape) != 3 or any(s % flow.multiple for s in asked)):
        raise UsageError(
            f"--size {size}: this model "
            + (
                f"needs sides that divide by {flow.multiple}"
                if len(flow.shape) == 3
                else "draws vectors; leave it out"
            )
        )
    if asked not in (None, flow.shape[1:]) and flow.latent_shape != flow.shape:
        raise UsageError(f"--size {size}: this model makes {flow.shape[1]}x{flow.shape[2]} only")
    level = noise_level(flow, level_asked)
    pixels = (asked or flow.shape[-2:])[0] * (asked or flow.shape[-2:])[-1] if images else 1
    step = max(1, min(n, _BATCH_PIXELS // pixels if images else 4096))
    generator = torch.Generator(target).manual_seed(seed)
    parts = []
    with progress_bar("sampling", quiet) as report:
        for first in range(0, n, step):
            some = flow.sample(
                min(step, n - first),
                level,
                temperature,
                size=asked,
                generator=generator,
            )
            parts.append(some.float().cpu())
            report(min(first + step, n), n)
    x = torch.cat(parts)

    kind = out.suffix.lower()
    if kind == ".npy":
        import numpy as np

        buffer = io.BytesIO()
        np.save(buffer, x.numpy())
        written = [atomic_write(out, buffer.getvalue())]
    elif kind:
        written = [_write_picture(out, draw_grid(x))]
    else:
        digits = len(str(n - 1))
        written = [
            write_image(out / f"sample-{i:0{digits}d}.png", image) for i, image in enumerate(x)
        ]
        if grid:
            written.append(_write_picture(out / "grid.png", draw_grid(x)))
    if json:
        print_json(
            {"model": model, "n": n, "shape": list(x.shape[1:]), "temperature": temperature,
             "sigma": level, "seed": seed, "files": written}
        )  # fmt: skip
    else:
        print(written[0] if len(written) == 1 else f"{len(written)} files in {out}")
    return 0


def _check_out(out: Path) -> None:
    kind = out.suffix.lower()
    if kind not in ("", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".npy"):
        raise UsageError(f"--out {out}: give a .png, a .npy, or a folder")
    check_writable(out.parent if kind else out)


def _write_picture(path: Path, picture) -> Path:
    import numpy as np
    import torch

    from ..data import write_image

    array = np.asarray(picture)
    array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return write_image(path, torch.tensor(array).float() / 255)
