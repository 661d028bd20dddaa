"""``innverse interpolate``: what lies between two pictures."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from .options import (
    Device,
    Json,
    check_writable,
    noise_level,
    parse_number,
    parse_size,
    print_json,
    start,
)


def interpolate(
    first: Path,
    second: Path,
    /,
    *,
    model: str = "faces64",
    steps: int = 8,
    out: Path = Path("strip.png"),
    sigma: str | None = None,
    size: str | None = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Pictures between two pictures, on the arc between their exact latents.

    innverse interpolate a.png b.png --model faces64 --steps 8 --out strip.png

    The ends of the strip are the two pictures themselves, up to rounding: a flow
    loses nothing. They are encoded as they are, also by a model that is
    conditioned on a noise level; its level only says how smooth the density is.

    Parameters
    ----------
    first
        A picture; its middle is cut out and scaled to the size of the model.
    second
        Another.
    model
        A flow of images: a shipped name or a folder.
    steps
        Pictures in the strip, both ends included.
    out
        The strip.
    sigma
        Noise level, for models that are conditioned on one. [default: 0.02]
    size
        HxW of the pictures, for convolutional models. [default: that of training]
    """
    if steps < 2:
        raise UsageError(f"--steps {steps}: must be at least 2")
    asked = None if size is None else parse_size(size)
    level_asked = None if sigma is None else parse_number(sigma, "--sigma")
    check_writable(out.parent)
    target = start(device)
    import torch

    from ..data import write_image
    from ..flows.attributes import SIGMA
    from ..metrics import psnr
    from ..report import grid
    from .pictures import load_flow_of_images, read_picture

    flow = load_flow_of_images(model, target)
    level = noise_level(flow, level_asked, SIGMA)
    a, b = (read_picture(p, flow, asked or flow.shape[1:]) for p in (first, second))
    path = flow.interpolate(a.to(target), b.to(target), steps, level).cpu()
    write_image(out, grid(path, steps))
    ends = torch.stack((a, b))
    if json:
        print_json(
            {"model": model, "sigma": level, "steps": steps, "shape": list(path.shape[1:]),
             "psnr_of_ends": psnr(path[[0, -1]], ends), "files": [out]}
        )  # fmt: skip
    else:
        print(out)
    return 0
