"""``innverse sample``: draw from a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..progress import Progress
from .options import (
    Device,
    Json,
    Quiet,
    Seed,
    check_memory,
    check_writable,
    load_model,
    noise_level,
    note,
    parse_number,
    parse_size,
    print_json,
    start,
)

if TYPE_CHECKING:
    from torch import Tensor

_BATCH_PIXELS = 2**19
_NEIGHBOURS = 3  # shown beside each draw
_REFERENCES = 64  # training images whose own neighbours say what distance is usual


def sample(
    model: str,
    /,
    *,
    n: int | None = None,
    out: Path | None = None,
    temperature: float = 1.0,
    truncation: float | None = None,
    sigma: str | None = None,
    denoise: bool = False,
    size: str | None = None,
    grid: str | None = None,
    neighbours: str | None = None,
    subset: str | None = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Draw images from a model.

    innverse sample faces64 --grid 6x6 --temperature 0.7 --out faces.png
    innverse sample faces64 --temperature 0.7 --neighbours faces.tar
    innverse sample runs/digits/model --n 1000 --out samples.npy

    Parameters
    ----------
    model
        Name of a shipped model, or a folder with a saved one.
    n
        How many. [default: 16]
    out
        A picture (all in one grid), a .npy (exact float32 values, in the units of the model where it
        has some), or a folder (a file for each draw). [default: samples.png, or samples.npy for
        models of vectors]
    temperature
        Scale of the latent's standard deviation; below 1 draws are more typical.
    truncation
        Coordinates of the latent beyond this many standard deviations are drawn again; the
        temperature scales what is left.
    sigma
        Noise level, for models that are conditioned on one. [default: the lowest]
    denoise
        Take the noise of that level, which such a model draws too, out again (Tweedie's formula).
    size
        HxW of the images, for convolutional models. [default: that of training]
    grid
        ROWSxCOLUMNS of the picture, and so how many. With a folder as --out it is grid.png.
    neighbours
        Training images (folder, tar, .npy, ...): the three nearest to each draw by the root
        mean square difference of pixels are shown beside it, in a second picture.
    subset
        A part of those, such as a folder in a tar.
    """
    if n is not None and n < 1:
        raise UsageError(f"--n {n}: must be at least 1")
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"--temperature {temperature:g}: must be a finite number >= 0")
    if truncation is not None and not truncation > 0:
        raise UsageError(f"--truncation {truncation:g}: must be above 0")
    rows_columns = None if grid is None else parse_size(grid, "--grid", "ROWSxCOLUMNS, such as 6x6")
    if rows_columns is not None:
        cells = rows_columns[0] * rows_columns[1]
        if n not in (None, cells):
            raise UsageError(f"--grid {grid} holds {cells} draws, not --n {n}: leave one out")
        n = cells
    n = n or 16
    if subset is not None and neighbours is None:
        raise UsageError("--subset is a part of --neighbours: give both")
    asked = None if size is None else parse_size(size)
    level_asked = None if sigma is None else parse_number(sigma, "--sigma")
    if out is not None:
        _check_out(out)

    target = start(device)
    from ..data import write_image
    from .pictures import is_of_images

    flow = load_model(model, target)
    images = is_of_images(flow)
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
    if not images and neighbours is not None:
        raise UsageError(f"{model} is no model of images: leave out --neighbours")
    _check_size(flow, size, asked)
    level = noise_level(flow, level_asked)
    if denoise and level is None:
        raise UsageError("--denoise: this model knows no noise level; leave it out")
    check_memory(n * math.prod((flow.shape[0], *asked) if asked else flow.shape), f"--n {n}")
    x = _drawn(flow, n, level, temperature, truncation, asked, denoise, seed, quiet)

    # before anything is written: the training images may be unreadable
    near = None
    if neighbours is not None:
        with Progress("looking for neighbours", quiet=quiet):
            near = _neighbours(x, flow, neighbours, subset)
    columns = None if rows_columns is None else rows_columns[1]
    kind = out.suffix.lower()
    written = _written(x, flow, out, columns)
    result: dict[str, Any] = {
        "model": model, "n": n, "shape": list(x.shape[1:]), "temperature": temperature,
        "truncation": truncation, "sigma": level, "denoised": denoise, "seed": seed,
        "files": written,
    }  # fmt: skip
    if near is not None:
        picture, result["neighbours"] = near
        place = out.with_name(f"{out.stem}-neighbours.png") if kind else out / "neighbours.png"
        written.append(write_image(place, picture))
    if json:
        print_json(result)
        return 0
    print("\n".join(map(str, written)) if kind else f"{len(written)} files in {out}")
    if near is not None:
        found = result["neighbours"]
        note(
            f"nearest training image: rms difference {found['median']:.3f} in the median; "
            f"between training images {found['median_of_training']:.3f}",
            quiet,
        )
    return 0


def _check_size(flow, size: str | None, asked: tuple[int, int] | None) -> None:
    """Raise UsageError unless the model makes images of the size that is ``asked`` for."""
    if asked is None:
        return
    if len(flow.shape) != 3:
        raise UsageError(f"--size {size}: this model draws vectors; leave it out")
    if any(s % flow.multiple for s in asked):
        raise UsageError(f"--size {size}: this model needs sides that divide by {flow.multiple}")
    if asked != flow.shape[1:] and flow.latent_shape != flow.shape:
        raise UsageError(f"--size {size}: this model makes {flow.shape[1]}x{flow.shape[2]} only")


def _drawn(flow, n, level, temperature, truncation, size, denoise, seed, quiet) -> Tensor:
    """``n`` draws on the CPU, a few at a time."""
    import torch

    pixels = math.prod(size or flow.shape[1:])
    step = max(1, min(n, _BATCH_PIXELS // pixels if len(flow.shape) == 3 else 4096))
    generator = torch.Generator(next(flow.parameters()).device).manual_seed(seed)
    options = {"truncation": truncation, "size": size, "generator": generator}
    parts = []
    with Progress("sampling", n, unit="draw", quiet=quiet) as report:
        for first in range(0, n, step):
            some = flow.sample(min(step, n - first), level, temperature, **options)
            parts.append((flow.denoise(some, level, 4) if denoise else some).float().cpu())
            report(min(first + step, n), n)
    return torch.cat(parts)


def _written(x: Tensor, flow, out: Path, columns: int | None) -> list[Path]:
    """The files of draws: an array, a picture, or a folder of them and, given ``columns``, a grid."""
    from ..data import atomic_write, write_image
    from ..data.stack import from_unit
    from ..report import grid

    kind = out.suffix.lower()
    if kind == ".npy":
        import numpy as np

        values = from_unit(x, getattr(flow, "x_range", None)).numpy()
        return [atomic_write(out, lambda file: np.save(file, values))]
    if kind:
        return [write_image(out, grid(x, columns))]
    digits = len(str(len(x) - 1))
    files = [write_image(out / f"sample-{i:0{digits}d}.png", image) for i, image in enumerate(x)]
    return files if columns is None else [*files, write_image(out / "grid.png", grid(x, columns))]


def _neighbours(x: Tensor, model, data: str, subset: str | None):
    """A picture of draws with their neighbours, and the distances with what they mean."""
    import torch

    from ..metrics import nearest
    from ..report import grid
    from .pictures import read_pictures

    images, names = read_pictures(data, subset, model, x.shape[2:])
    k = min(_NEIGHBOURS, len(images))
    distances, index = nearest(x.clamp(0, 1), images, k)
    found: dict[str, Any] = {
        "data": data,
        "images": len(images),
        "median": float(distances[:, 0].median()),
        "median_of_training": None,
        "nearest": [
            [{"name": names[i], "rms": d} for i, d in zip(row, far, strict=True)]
            for row, far in zip(index.tolist(), distances.tolist(), strict=True)
        ],
    }
    if len(images) > 1:
        chosen = torch.linspace(0, len(images) - 1, min(_REFERENCES, len(images))).long()
        usual, _ = nearest(images[chosen].float() / 255, images, 2)  # the nearest is itself
        found["median_of_training"] = float(usual[:, 1].median())
    cells = torch.cat((x[:, None], images[index].float() / 255), 1)
    gap = torch.ones_like(cells[..., :2])
    rows = torch.cat((cells, gap), -1).movedim(1, -2).flatten(-2)[..., : -gap.shape[-1]]
    return grid(rows, pad=6), found


def _check_out(out: Path) -> None:
    kind = out.suffix.lower()
    if kind not in ("", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".npy"):
        raise UsageError(f"--out {out}: give a .png, a .npy, or a folder")
    check_writable(out.parent if kind else out)
