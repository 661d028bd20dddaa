"""Numpy's own: .npy, and one array of a .npz. Never a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ..atomic import atomic_write
from ..npy import array_shapes, load_numpy
from ..stack import Stack, as_type, chosen, found_range, from_slices, to_slices


def array(path: Path, name: str | None) -> np.ndarray:
    """The array, or that of ``name``."""
    shapes = array_shapes(path)
    if "" in shapes or not shapes:
        return load_numpy(path, name)
    return load_numpy(path, chosen(shapes, name, str(path)))


def read(path: Path, name: str | None) -> Stack:
    shapes = array_shapes(path)
    if shapes and "" not in shapes:
        name = chosen(shapes, name, str(path))
    elif name is not None:
        raise InputError(f"{path} is a single array: leave out {name!r}")
    values = load_numpy(path, name)
    label = f"{path}:{name}" if name else str(path)
    slices = to_slices(values, label)
    x_range, white = found_range(slices, label)
    return Stack(slices, label, x_range, white, kept=(name, values.shape))


def write(path: Path, stack: Stack, values: np.ndarray, spread: bool) -> Path:
    name, shape = stack.kept
    dtype = np.dtype(np.float32) if spread else stack.values.dtype
    array = as_type(from_slices(values, shape), dtype)
    if name is None:
        return atomic_write(path, lambda file: np.save(file, array))
    arrays: dict[str, Any] = {name: array}
    return atomic_write(path, lambda file: np.savez_compressed(file, **arrays))
