"""``innverse attribute``: a direction in latent space, from two sets of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import UsageError
from ..progress import Progress
from .options import (
    Device,
    Json,
    Quiet,
    check_writable,
    noise_level,
    note,
    parse_number,
    print_json,
    start,
)


def attribute(
    *,
    with_: Annotated[str | None, Parameter(name="--with")] = None,
    without: str | None = None,
    load: Path | None = None,
    save: Path | None = None,
    apply: Path | None = None,
    strengths: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-2..2",
    steps: int = 9,
    out: Path = Path("strip.png"),
    model: str = "faces64",
    sigma: str | None = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Change an attribute of a picture along a direction between two sets of pictures.

    innverse attribute --with smiling/ --without serious/ --apply photo.png
    innverse attribute --with smiling/ --without serious/ --save smile.safetensors
    innverse attribute --load smile.safetensors --apply photo.png --strengths 0..1.5

    The direction is the difference of the mean latents of the two sets. It is added
    to the exact latent of the picture, so strength 0 is the picture itself, and
    strength 1 adds what the sets differ by on average. All pictures are encoded as
    they are, also by a model that is conditioned on a noise level.

    Parameters
    ----------
    with_
        Pictures that have the attribute: a folder, an archive, an array.
    without
        Pictures that lack it. Take a hundred each: how much of the direction is chance is
        printed.
    load
        Take the direction from this file instead.
    save
        Write the direction to a safetensors file.
    apply
        The picture to change; its middle is cut out and scaled to the size of the model.
    strengths
        LOW..HIGH of the strip.
    steps
        Pictures in the strip.
    out
        The strip.
    model
        A flow of images: a shipped name or a folder.
    sigma
        Noise level, for models that are conditioned on one. [default: 0.02]
    """
    if load is not None and (with_ is not None or without is not None or sigma is not None):
        raise UsageError("--load has the direction: leave out --with, --without and --sigma")
    if load is None and (with_ is None or without is None):
        raise UsageError("give --with and --without, or --load FILE")
    if apply is None and save is None:
        raise UsageError("nothing to do: give --apply PICTURE, --save FILE, or both")
    if steps < 1:
        raise UsageError(f"--steps {steps}: must be at least 1")
    low, high = _parse_range(strengths)
    level_asked = None if sigma is None else parse_number(sigma, "--sigma")
    for file in (save, out if apply is not None else None):
        if file is not None:
            check_writable(file.parent)
    target = start(device)
    import torch

    from ..data import write_image
    from ..flows import Attribute
    from ..flows.attributes import SIGMA
    from ..report import grid
    from .pictures import load_flow_of_images, read_picture, read_pictures

    flow = load_flow_of_images(model, target)
    if load is not None:
        found = Attribute.load(load)
    else:
        level = noise_level(flow, level_asked, SIGMA)
        with Progress("finding the direction", quiet=quiet):
            sets = (
                read_pictures(data, None, flow, flow.shape[1:])[0]
                for data in (with_, without)
                if data
            )
            found = Attribute.between(flow, *sets, level)
    files = [] if save is None else [found.save(save)]
    if apply is not None:
        x = read_picture(apply, flow, found.direction.shape[-2:]).to(target)
        values = torch.linspace(low, high, steps)
        files.append(write_image(out, grid(found.apply(flow, x, values).cpu(), steps)))
    if json:
        print_json(
            {"model": model, "sigma": found.sigma, "images": found.counts, "length": found.length,
             "length_by_chance": found.noise, "strengths": [low, high, steps], "files": files}
        )  # fmt: skip
        return 0
    print("\n".join(map(str, files)))
    note(
        f"direction of length {found.length:.1f} from {found.counts[0]} pictures with and "
        f"{found.counts[1]} without; by chance alone it would have {found.noise:.1f}",
        quiet,
    )
    return 0


def _parse_range(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    if not dots:
        raise UsageError(f"--strengths {text}: give LOW..HIGH, such as -2..2")
    return parse_number(low, "--strengths"), parse_number(high, "--strengths")
