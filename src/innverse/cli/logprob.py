"""``innverse logprob``: the log-density of files under a model, exact or (VAE) bounded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import InputError, ShapeError, UsageError
from ..progress import Progress
from .entry import complain
from .options import (
    Device,
    Json,
    Quiet,
    Seed,
    load_model,
    noise_level,
    parse_number,
    print_json,
    start,
)

_TABLES = (".csv", ".parquet", ".pq", ".npz")


def logprob(
    model: str,
    files: Annotated[list[str], Parameter(negative=())],
    /,
    *,
    sigma: str | None = None,
    samples: int = 64,
    as_is: bool = False,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """The exact log-density of files, in nats and in bits per dimension.

    innverse logprob natural-gray photo.png --sigma 0.02
    innverse logprob runs/digits/model digits.npy --json

    The density is one of real-valued images in [0, 1]. An 8-bit picture is
    therefore spread over its 256 levels by uniform noise; a model conditioned on a
    noise level sigma is the density of pictures with that much Gaussian noise,
    which is added. Both come from --seed. Of a VAE, bounds are given: log p is at
    least, bits per dimension are at most so much. That of an injective flow is the
    density on its manifold, at the projection, and has no bits per dimension.

    Parameters
    ----------
    model
        Name of a shipped model, or a folder with a saved one.
    files
        Pictures (converted to the channels of the model), slices with units (DICOM, TIFF, NIfTI,
        HDF5, .mat), folders of these, or .npy arrays of items or tables (CSV, parquet, .npz), whose
        values are taken as they are. A model that was trained on values with units takes those of
        slices and arrays to be such; the density is that of its own scale, 0 to 1.
    sigma
        Noise level, for models that are conditioned on one. [default: the lowest]
    samples
        Importance samples of the bound of a VAE; more are tighter, 1 is the ELBO.
    as_is
        Add no noise to the pictures.
    """
    level_asked = None if sigma is None else parse_number(sigma, "--sigma")
    target = start(device)
    import torch

    flow = load_model(model, target)
    if flow.condition:
        raise UsageError(f"{model} is conditioned on more than a noise level: use it from Python")
    bound = hasattr(flow, "log_prob_bound")
    if not bound and not hasattr(flow, "log_prob"):
        raise UsageError(
            f"{model} is a {flow.name}, which has no likelihood: take a flow (exact) or a VAE "
            "(a bound)"
        )
    if samples < 1:
        raise UsageError(f"--samples {samples}: must be at least 1")
    level = noise_level(flow, level_asked)
    generator = torch.Generator(target).manual_seed(seed)

    def log_prob(x):
        if bound:
            return flow.log_prob_bound(x, samples, generator=generator)
        return flow.log_prob(x, level)

    paths = [path for file in files for path in _paths(Path(file))]
    rows, failures = [], []
    progress = Progress("log-density", len(paths), unit="file", quiet=quiet)
    with progress, torch.no_grad():
        for i, path in enumerate(paths):
            progress(i, note=path.name)
            try:
                for label, x in _read(path, flow, level, as_is, seed):
                    rows.append({"file": label, **_density(flow, x.to(target), log_prob)})
            except InputError as error:
                failures.append({"file": str(path), "reason": " ".join(str(error).split())})
    if json:
        kind = f"bound from {samples} samples" if bound else "exact"
        print_json(
            {
                "model": model, "sigma": level, "kind": kind,
                "range": getattr(flow, "x_range", None), "units": getattr(flow, "units", ""),
                "results": rows, "failures": failures,
            }
        )  # fmt: skip
    elif rows:
        from ..report import Table

        least, most = (" >=", " <=") if bound else ("", "")
        table = Table(["file", f"log p{least} (nats)", f"bits/dim{most}"], digits=3)
        for row in rows:
            table.add(row["file"], row["log_prob"], row["bits_per_dim"])
        table.print()
    for failed in failures:
        complain(failed["reason"])
    return 4 if failures else 0


def _paths(file: Path) -> list[Path]:
    """A file, or the slices or pictures of a folder."""
    from ..data.files import stack_files
    from ..data.sources import image_files

    slices = [path for _, (path,) in stack_files(file)] if file.is_dir() else []
    return slices or image_files(file)


def _read(path: Path, flow, level: float | None, as_is: bool, seed: int):
    """(label, x (1, ...)) of each item in a file, on the scale of the model."""
    import torch

    if path.suffix.lower() in (".npy", *_TABLES):
        yield from _items(path, flow)
        return
    from ..data import dequantize, read_image
    from ..data.files import is_stack

    if len(flow.shape) != 3 or flow.shape[0] not in (1, 3):
        raise UsageError(f"this model is not one of pictures: give .npy arrays of {flow.shape}")
    generator = torch.Generator().manual_seed(seed)
    if is_stack(path):
        yield from _slices(path, flow, level, as_is, generator)
        return
    picture = read_image(path, "L" if flow.shape[0] == 1 else "RGB")
    x = picture.tensor[None]
    if not as_is and level is not None:
        x = x + level * torch.randn(x.shape, generator=generator)
    elif not as_is and picture.bits <= 16:
        levels = 2 ** max(8, picture.bits)
        x = dequantize((x * (levels - 1)).round(), generator, levels=levels)
    yield str(path), x


def _slices(path: Path, flow, level: float | None, as_is: bool, generator):
    import numpy as np
    import torch

    from ..data import dequantize, read_stack
    from ..data.stack import check_units, to_unit

    stack = read_stack(path)
    check_units(str(path), stack.units, flow)
    copies, rest = divmod(flow.shape[0], stack.values.shape[1])
    if rest:
        raise ShapeError(f"{path} has coloured slices, the model takes gray ones")
    low, high = getattr(flow, "x_range", None) or stack.x_range
    for k, values in enumerate(np.repeat(stack.values.astype(np.float64), copies, 1)):
        x = torch.from_numpy(to_unit(values, (low, high))).float()[None]
        if not as_is and level is not None:
            x = x + level * torch.randn(x.shape, generator=generator)
        elif not as_is and high - low < 65536 and (values == np.rint(values)).all():
            steps = torch.from_numpy(values - low)[None]
            x = dequantize(steps, generator, levels=round(high - low) + 1).float()
        yield f"{path}[{k}]" if len(stack) > 1 else str(path), x


def _items(path: Path, flow):
    import torch

    from ..data.columns import read_columns
    from ..data.npy import load_numpy
    from ..data.stack import to_unit

    table = path.suffix.lower() in _TABLES
    array = read_columns(path)[0].numpy() if table else load_numpy(path)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{path} holds {array.dtype}; save real numbers (float32)")
    if array.ndim == len(flow.shape):
        array = array[None]
    fits = array.ndim == len(flow.shape) + 1 and array.shape[1] == flow.shape[0]
    if not fits or array.size == 0:
        want = "(N, D)" if len(flow.shape) == 1 else "(N, C, H, W)"
        raise ShapeError(f"{path} has shape {array.shape}; this model takes {want} of {flow.shape}")
    for i, item in enumerate(array):
        # the first layer of a flow of vectors takes the digits of float64 into account
        x = torch.tensor(item, dtype=torch.float64 if len(flow.shape) == 1 else torch.float32)[None]
        x = to_unit(x, getattr(flow, "x_range", None))
        if not torch.isfinite(x).all():
            raise InputError(f"{path}: item {i} contains NaN or Inf; remove it")
        yield f"{path}[{i}]" if len(array) > 1 else str(path), x


def _density(flow, x, log_prob) -> dict[str, float | None]:
    from ..flows.padding import round_up
    from ..protocols import is_of_codes

    nats = float(log_prob(x)[0])
    # a picture whose sides do not divide is judged with its padding
    sides = [round_up(n, flow.multiple) for n in x.shape[2:]] if x.dim() == 4 else []
    dims = math.prod([x.shape[1], *sides])
    # points of a manifold have no pixels' density, and so no bits
    bits = (
        None if is_of_codes(flow) and hasattr(flow, "log_prob") else 8 - nats / dims / math.log(2)
    )
    return {"log_prob": nats, "bits_per_dim": bits, "dims": dims}
