"""``innverse train``: train a flow, a VAE or a GAN on pictures, or a flow on a table."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def train(
    config: Path | None = None,
    *,
    data: str | None = None,
    subset: str | None = None,
    model: str | None = None,
    out: Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    crop: int | None = None,
    channels: int | None = None,
    lr: float | None = None,
    range_: Annotated[str | None, Parameter(name="--range")] = None,
    precision: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    set: Annotated[list[str] | None, Parameter(name="--set")] = None,
    resume: Annotated[bool, Parameter(negative="--no-resume")] = True,
    json: bool = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False,
) -> int:
    """Train a model of images or of a table; the same command continues an interrupted run.

    innverse train configs/digits.toml
    innverse train wine.csv --steps 5000
    innverse train slices/ --minutes 60
    innverse train --data photos/ --model glow --steps 5000 --out runs/photos
    torchrun --nproc-per-node 4 -m innverse train config.toml

    Ctrl-C saves everything first. The trained model is in the folder "model" of the run. With more
    --steps, a finished training goes on.

    Parameters
    ----------
    config
        TOML file with the tables [data], [model], [train], [out]; flags go over it. Or the data.
    data
        Folder (of pictures, or MNIST's), tar, .npy/.npz, IDX file, or a built-in set (digits,
        skimage). Slices with units: DICOM, NIfTI, HDF5 (file.h5:name), .mat, TIFF, or a folder. Or a
        table: CSV with a header, parquet, .npz or .npy with two axes; data.columns
        and data.condition choose its columns.
    subset
        A part of the data, such as a folder in a tar, or t10k of MNIST.
    model
        Name of the architecture; innverse info lists them.
    out
        Folder of the run. [default: runs/ and the name of the TOML file, or of the model]
    steps
        Length of the training (of a table at most: it ends when progress does).
    minutes
        Time for all of it, which chooses what is not given: model, size, crops, steps. Ends with
        a report of whether the prior is good enough. (Of a table: at most.)
    batch_size
        Images or rows of a step, all processes together.
    crop
        Side of the square crops. [default: images of one size, up to 64 pixels, are taken whole]
    channels
        1 (gray) or 3 (RGB). [default: as the images are]
    lr
        Peak learning rate.
    range_
        LOW:HIGH, the values that become 0 and 1, for slices with units; the rest is clipped.
        [default: the smallest and the largest]
    precision
        fp32, or bf16 for the networks inside the model.
    seed
        Seed of everything random.
    device
        auto, cpu or cuda.
    set
        Any other setting, as table.key=value; may be given repeatedly.
    resume
        Continue the run in --out if there is one; --no-resume deletes it and starts over.
    json
        Print the outcome as JSON on stdout.
    quiet
        No progress and no notes.

    Returns
    -------
    int
        The exit code: 0 when complete, 3 when diverged, 130 when interrupted (all is saved).
    """
    from ..train.config import TrainingConfig, load_config, parse_setting
    from .options import parse_range

    overrides = {
        "data.path": data,
        "data.subset": subset,
        "data.crop": crop,
        "data.channels": channels,
        "data.range": None if range_ is None else list(parse_range(range_)),
        "model.name": model,
        "train.steps": steps,
        "train.minutes": minutes,
        "train.batch_size": batch_size,
        "train.lr": lr,
        "train.precision": precision,
        "train.seed": seed,
    }
    overrides |= dict(parse_setting(text) for text in set or ())
    if config is not None and config.suffix.lower() != ".toml" and data is None:
        overrides["data.path"], config = str(config), None
    settings = load_config(config, overrides)
    name = config.stem if config is not None else settings.model.name
    if config is None and minutes is not None and isinstance(settings, TrainingConfig):
        name = Path(settings.data.path).stem  # the kind of model is chosen later
    folder = out or Path(settings.out.dir or Path("runs") / name)

    from ..train.allocator import keep_buffers
    from ..train.loop import train as run
    from .options import print_json, same_command

    keep_buffers()

    outcome = run(
        settings, folder, resume=resume, device=device, quiet=quiet, command=same_command()
    )
    if int(os.environ.get("RANK", "0")) == 0:
        if json:
            print_json(asdict(outcome))
        elif outcome.complete:
            numbers = ", ".join(f"{k} {v:.4f}" for k, v in outcome.held_out.items())
            print(f"{outcome.model}" + (f"  ({numbers})" if numbers else ""))
    return 0 if outcome.complete else 130
