"""Between a user's pictures and the shape that a model knows, in both directions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..data import fit, fit_all, open_images, read_image
from ..errors import UsageError
from .options import load_model


def load_flow_of_images(name: str, device: torch.device):
    """A flow of images that needs no condition but a noise level, on the device.

    Raises:
        UsageError: a model of something else, or without exact latents.
    """
    from ..flows import Flow

    flow = load_model(name, device)
    if not isinstance(flow, Flow):
        raise UsageError(f"{name} has no exact latents: take a flow, such as faces64")
    if not is_of_images(flow) or flow.condition:
        raise UsageError(f"{name} is no model of images alone: take one such as faces64")
    return flow


def is_of_images(model) -> bool:
    return len(model.shape) == 3 and model.shape[0] in (1, 3)


def read_picture(path: str | Path, channels: int, size: tuple[int, ...]) -> Tensor:
    """One file as (C, H, W) in [0, 1], by `fit`."""
    image = read_image(path, "L" if channels == 1 else "RGB")
    return fit(image.tensor[None], (size[0], size[1]))[0]


def read_pictures(
    data: str, subset: str | None, shape: tuple[int, ...]
) -> tuple[Tensor, list[str]]:
    """All images of a folder, archive, ..., uint8 (N, *shape), and their names."""
    source = open_images(data, subset=subset, channels=shape[0])
    return fit_all(source, (shape[1], shape[2])), source.names
