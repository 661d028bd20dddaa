"""Between a user's pictures and the shape that a model knows, in both directions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..data import fit, fit_all, open_images, read_image
from ..data.files import is_stack
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


def read_picture(path: str | Path, model, size: tuple[int, ...]) -> Tensor:
    """One file as the model sees it, (C, H, W) in [0, 1], by `fit`; of several slices the first."""
    if is_stack(Path(path)):
        image = open_images(path, like=model, deep=True).unit(0)
    else:
        image = read_image(path, "L" if model.shape[0] == 1 else "RGB").tensor
    return fit(image[None], (size[0], size[1]))[0]


def read_pictures(
    data: str, subset: str | None, model, size: tuple[int, ...]
) -> tuple[Tensor, list[str]]:
    """All images of a folder, archive, ..., as the model sees them, uint8 (N, C, *size), and their
    names."""
    source = open_images(data, subset=subset, like=model)
    return fit_all(source, (size[0], size[1])), source.names
