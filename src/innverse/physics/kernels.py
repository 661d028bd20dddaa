"""Point spread functions: formulas, camera shake made by a seed, and measured ones from files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.formats import matlab
from ..data.image_io import read_image
from ..data.npy import array_names, load_numpy
from ..errors import InputError, ShapeError, UsageError
from ..options import OptionError, as_number

_WIDEST = 1000  # pixels: kernels beyond any picture
_BENDS = 6  # of a shaking hand during an exposure
_FORMS = "gaussian:WIDTH (gaussian:1.6), motion:LENGTH:ANGLE (motion:15:30) or shake:SEED (shake:3)"


def _checked_size(size) -> int:
    if int(size) != size or not 1 <= size <= 6 * _WIDEST + 1:
        raise UsageError(f"the size of a kernel must be a whole number >= 1, got {size}")
    return int(size)


def gaussian_kernel(sigma: float, size: int | None = None) -> Tensor:
    """A Gaussian (size, size) with unit sum; size defaults to 3 sigma on each side.

    Args:
        sigma: standard deviation in pixels, > 0.
        size: width in pixels, odd or even.

    Example:
        >>> kernel = gaussian_kernel(1.0)
        >>> kernel.shape, round(float(kernel.sum()), 3)
        (torch.Size([7, 7]), 1.0)
    """
    if not 0 < sigma <= _WIDEST:
        raise UsageError(
            f"the width of a Gaussian kernel must be > 0 pixels, at most {_WIDEST}, got {sigma}"
        )
    size = 2 * math.ceil(3 * sigma) + 1 if size is None else _checked_size(size)
    t = torch.arange(size, dtype=torch.float64) - size // 2
    line = torch.exp(-(t**2) / (2 * sigma**2))
    kernel = line[:, None] * line[None, :]
    return (kernel / kernel.sum()).float()


def motion_kernel(length: float, angle: float = 0.0, size: int | None = None) -> Tensor:
    """Straight camera motion (size, size): a line of unit sum, anti-aliased.

    Args:
        length: of the motion in pixels, > 0.
        angle: direction in degrees, counter-clockwise from the horizontal.
        size: width in pixels; defaults to what the line needs.

    Example:
        >>> kernel = motion_kernel(9, angle=30)
        >>> round(float(kernel.sum()), 3)
        1.0
    """
    if not 0 < length <= _WIDEST:
        raise UsageError(
            f"the length of a motion kernel must be > 0 pixels, at most {_WIDEST}, got {length}"
        )
    if not math.isfinite(angle):
        raise UsageError(f"the angle of a motion kernel must be finite, got {angle}")
    size = 2 * math.ceil(length / 2) + 1 if size is None else _checked_size(size)
    centre = size // 2
    points = max(1, int(64 * length))
    t = (torch.arange(points + 1, dtype=torch.float64) / points - 0.5) * length
    t = t * max(0.0, (length - 1) / length)
    across = centre + t * math.cos(math.radians(angle))
    down = centre - t * math.sin(math.radians(angle))
    return _drawn(down, across, size)


def shake_kernel(seed: int = 0, size: int = 25) -> Tensor:
    """Camera shake (size, size) of unit sum: the path of a hand that holds still for an exposure.

    A random path p(t) = sum_k k^-3/2 a_k cos(pi k t) with a_k ~ N(0, I), whose centre of mass is that
    of the kernel, drawn anti-aliased. It is made to look like the measured kernels of Levin et al.
    (CVPR 2009), which come in files, see `read_kernels`.

    Args:
        seed: of the path.
        size: width in pixels, 3 at least; the path reaches over half of it or more.

    Example:
        >>> kernel = shake_kernel(seed=3)
        >>> kernel.shape, round(float(kernel.sum()), 3)
        (torch.Size([25, 25]), 1.0)
    """
    if _checked_size(size) < 3:
        raise UsageError(f"the size of a shaken kernel must be at least 3 pixels, got {size}")
    generator = torch.Generator().manual_seed(int(seed))
    k = torch.arange(1, _BENDS + 1, dtype=torch.float64)
    a = torch.randn(2, _BENDS, dtype=torch.float64, generator=generator)
    share = 0.5 + 0.5 * torch.rand((), dtype=torch.float64, generator=generator)
    t = torch.linspace(0, 1, 64 * size, dtype=torch.float64)
    path = (a * k**-1.5) @ torch.cos(math.pi * k[:, None] * t)
    path = path - path.mean(1, keepdim=True)
    path = path * share * (size // 2 - 0.5) / path.abs().max()
    return _drawn(*(size // 2 + path), size)


def _drawn(down: Tensor, across: Tensor, size: int) -> Tensor:
    """Points in pixels, each shared bilinearly by its four neighbours; of unit sum."""
    grid = torch.arange(size, dtype=torch.float64)
    near_rows = (1 - (grid[:, None] - down).abs()).clamp_min(0)
    near_columns = (1 - (grid[:, None] - across).abs()).clamp_min(0)
    kernel = near_rows @ near_columns.T
    return (kernel / kernel.sum()).float()


def read_kernel(text: str, index: int | None = None) -> Tensor:
    """A kernel (h, w) of unit sum from gaussian:WIDTH, motion:LENGTH:ANGLE, shake:SEED or a file.

    Args:
        text: a description, or the path of a picture, a .npy, .npz or .mat, see `read_kernels`.
        index: which of several kernels in a file, counted from 1.

    Raises:
        UsageError: a malformed description, an index that the file does not have, or none where it
            has several. InputError: an unusable file.
    """
    kind, *numbers = text.split(":")
    if kind in ("gaussian", "motion", "shake") and not os.path.isfile(text):
        if index is not None:
            raise OptionError("kernel_index", " is for files with several kernels, not for ", "kernel",
                              f" {text}")  # fmt: skip
        return _described(text, kind, numbers)
    if not (os.path.exists(text) or "." in text or os.sep in text):
        raise UsageError(
            f"unknown kernel {text!r}: choose gaussian, motion or shake, a file, or a tensor"
        )
    found = read_kernels(text)
    if index is None and len(found) > 1:
        sizes = ", ".join("x".join(map(str, k.shape)) for k in found[:8])
        sizes += ", ..." if len(found) > 8 else ""
        raise OptionError("", f"{text} holds {len(found)} kernels ({sizes}): choose one with ",
                          "kernel_index", f", 1 to {len(found)}")  # fmt: skip
    if index is not None and not 1 <= index <= len(found):
        words = "1 kernel" if len(found) == 1 else f"{len(found)} kernels"
        raise OptionError("kernel_index", f"={index}: {text} holds {words}, counted from 1")
    return found[(index or 1) - 1]


def _described(text: str, kind: str, numbers: list[str]) -> Tensor:
    values = [value for value in map(as_number, numbers) if value is not None]
    if len(values) == len(numbers):
        if kind == "gaussian" and len(values) == 1:
            return gaussian_kernel(values[0])
        if kind == "motion" and len(values) in (1, 2):
            return motion_kernel(values[0], values[1] if len(values) == 2 else 0.0)
        if kind == "shake" and len(values) == 1 and values[0] == int(values[0]) >= 0:
            return shake_kernel(int(values[0]))
    raise OptionError("kernel", f" {text}: write {_FORMS}, in pixels and degrees")


def read_kernels(path: str | os.PathLike) -> list[Tensor]:
    """All kernels (h, w) of a file in their order, each of unit sum.

    A picture or a two-dimensional array is one kernel. Several are the matrices of a .mat file (of any
    version; in a cell array, as those of Levin et al. 2009, one by one, or in a stack (h, w, n)), the
    arrays of a .npz, or a stack (n, h, w) in either.

    Raises:
        InputError: a file that is missing, damaged or holds no kernel; values that are not finite,
            or whose sum is not above 0.
        InnverseError: the library that reads .mat is missing.

    Example:
        >>> import numpy, pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "kernels.npz"
        >>> numpy.savez(file, a=numpy.ones((3, 3)), b=numpy.eye(5))
        >>> [tuple(kernel.shape) for kernel in read_kernels(file)]
        [(3, 3), (5, 5)]
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".mat":
        found = [k for values in matlab.arrays(path).values() for k in _of_matlab(values)]
    elif suffix == ".npy":
        found = list(_matrices(load_numpy(path)))
    elif suffix == ".npz":
        found = [k for name in array_names(path) for k in _matrices(load_numpy(path, name))]
    else:
        found = [read_image(path, "L").tensor[0].numpy()]
    if not found:
        raise InputError(f"kernel {path}: it holds no matrix of numbers (h, w)")
    return [_of_unit_sum(k, str(path)) for k in found]


def _of_unit_sum(array: np.ndarray, path: str) -> Tensor:
    if array.ndim != 2:
        raise ShapeError(f"kernel {path}: a kernel has shape (h, w), not {array.shape}")
    kernel = torch.from_numpy(np.array(array, np.float32))
    total = kernel.sum()
    if not (torch.isfinite(kernel).all() and total > 0):
        raise InputError(f"kernel {path}: the values must be finite with a sum above 0")
    return kernel / total


def _matrices(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array, or those of a stack (n, h, w)."""
    if array.ndim == 3 and len(array) < 1000:
        yield from array
    else:
        yield array


def _of_matlab(values: np.ndarray) -> Iterator[np.ndarray]:
    """The matrices of a variable, (h, w) or (h, w, n)."""
    if values.dtype.kind in "fiu" and values.size > 1 and values.ndim in (2, 3):
        yield from [values] if values.ndim == 2 else np.moveaxis(values, -1, 0)
