"""Images to compare on where the user gives none: what the scientific packages carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data import fit, fit_all, open_images
from ..pictures import small_faces


def read(path: str, subset: str | None, model: Any) -> tuple[Tensor, str]:
    """Images at a path as a model sees them, fitted, uint8 (N, *shape), and their name."""
    source = open_images(path, subset=subset, like=model)
    name = Path(path).name + (f" ({subset})" if subset else "")
    return fit_all(source, model.shape[1:]), name


def faces(shape: tuple[int, int, int]) -> tuple[Tensor, str]:
    """The hundred gray faces of 25x25 pixels inside scikit-image, enlarged: (100, *shape)."""
    x = small_faces()
    x = fit(x / x.max(), shape[1:]).expand(-1, shape[0], -1, -1)
    return (255 * x).round().to(torch.uint8), (
        "100 gray faces of 25x25 pixels from scikit-image, enlarged (smoother than photographs: give "
        "--test for numbers that mean something)"
    )


def photographs(model: Any) -> tuple[Tensor, str]:
    """The photographs inside scikit-image, made small: images of another kind."""
    return read("skimage", None, model)[0], "photographs from scikit-image"
