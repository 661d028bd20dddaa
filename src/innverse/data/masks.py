"""Masks from pictures: white is measured, black is missing."""

from __future__ import annotations

import io
import os

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from ..errors import InputError, ShapeError
from .image_io import quiet, read_file, read_image, upright


def read_mask(source, size: tuple[int, int] | None = None, invert: bool = False) -> Tensor:
    """A mask of zeros and ones: 1 = measured (brighter than half), 0 = missing.

    Args:
        source: path of an image file, a PIL image, a numpy array (H, W) or (H, W, C), or a tensor
            (..., H, W); channels are averaged. Integers count relative to the largest value of
            their type, but values that are only 0 and 1 are taken as they are. What is transparent
            is missing, unless black strokes on a transparent ground mark what is missing.
        size: (height, width) that the mask must have; None accepts any.
        invert: take black as measured instead.

    Returns:
        float32 (1, H, W).

    Raises:
        InputError: unreadable file, or a mask without a single measured pixel.
        ShapeError: not a picture, or another size than ``size``.

    Example:
        >>> read_mask(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).shape
        torch.Size([1, 2, 2])
    """
    is_path = isinstance(source, (str, os.PathLike))
    name = os.fspath(source) if is_path else "mask"
    values = _read(source) if is_path else _gray(source, name)
    if size is not None and tuple(values.shape) != tuple(size):
        (h, w), (height, width) = values.shape, size
        raise ShapeError(
            f"{name}: the mask is {w}x{h} pixels but the image is {width}x{height} "
            "(width x height); draw the mask at the size of the image"
        )
    # a mask of zeros and ones does not use the range of its type
    if values.numel() and 0 < values.max() <= 1 / 255:
        values = values / values.max()
    mask = ((values > 0.5) != invert).to(torch.float32)[None]
    if not mask.any():
        raise InputError(
            f"{name}: the mask has no measured pixel; white means measured and black means "
            "missing, swap them if it is drawn the other way round"
        )
    return mask


def _read(path) -> Tensor:
    """(H, W) in float64 from a file."""
    picture = read_image(path, "L")
    if not any(note.startswith("alpha") for note in picture.notes):
        return picture.tensor[0].double()
    with quiet(), PIL.Image.open(io.BytesIO(read_file(path))) as file:
        return _from_rgba(np.asarray(upright(file).convert("RGBA")) / 255)


def _from_rgba(rgba: np.ndarray) -> Tensor:
    """(H, W) from colours and opacity (H, W, 4) in [0, 1]."""
    light, opaque = rgba[..., :3].mean(-1), rgba[..., 3] > 0.5
    if opaque.all() or not opaque.any():
        measured = light > 0.5
    elif not (light[opaque] > 0.5).any():
        measured = ~opaque  # black strokes on nothing
    elif np.mean(np.minimum(light, 1 - light)[opaque] < 0.1) > 0.95:
        measured = opaque & (light > 0.5)  # black and white
    else:
        measured = opaque  # a photograph with a part erased
    return torch.from_numpy(measured.astype(np.float64))


def _gray(source, name: str) -> Tensor:
    """(H, W) in float64, integers divided by the largest value of their type."""
    if isinstance(source, PIL.Image.Image):
        if source.mode in ("P", "PA", "LA", "RGBA"):
            return _from_rgba(np.asarray(source.convert("RGBA")) / 255)
    elif isinstance(source, np.ndarray) and source.ndim == 3 and source.shape[-1] == 4:
        top = np.iinfo(source.dtype).max if source.dtype.kind in "ui" else 1
        return _from_rgba(source / top)
    if isinstance(source, Tensor):
        array = source.detach().cpu().numpy()
        array = array.reshape(-1, *array.shape[-2:]) if array.ndim > 2 else array[None]
    else:
        array = np.asarray(source)
        array = np.moveaxis(array, -1, 0)[:3] if array.ndim == 3 else array[None]
    if array.ndim != 3:
        raise ShapeError(f"{name} has shape {tuple(np.shape(source))}, expected a picture (H, W)")
    top = np.iinfo(array.dtype).max if array.dtype.kind in "ui" else 1
    return torch.from_numpy(array.astype(np.float64).mean(0) / top)
