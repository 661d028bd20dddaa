"""Images stored as arrays: seen as images, in the IDX format, and the digits of scikit-learn."""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import InnverseError, InputError, ShapeError, UsageError
from .expansion import check_expansion, file_size
from .image_io import read_file


class Items(Protocol):
    """Images by their index, uint8 (C, H, W) each."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> np.ndarray: ...


class Rows:
    """An array of images seen as uint8 (C, H, W) items, converted when they are asked for.

    Args:
        array: (N, H, W), (N, H, W, C) or (N, C, H, W) of uint8, bool, or float in [0, 1]; (H, W)
            and (H, W, 3) are taken as one image.
        label: names the array in errors.
        channels: 1 or 3 to convert, None to keep.
        layout: "NHWC" or "NCHW" where both would fit.
    """

    def __init__(
        self, array: np.ndarray, label: str, channels: int | None = None, layout: str | None = None
    ):
        self.array, self.last = _four_axes(array, label, layout)
        present = self.array.shape[-1 if self.last else 1]
        self.channels = channels or present
        _check_values(self.array, label)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, i: int) -> np.ndarray:
        return self._convert(self.array[i : i + 1])[0]

    @property
    def nbytes(self) -> int:
        """Size of all images as uint8."""
        n, a, b, c = self.array.shape
        return n * a * b * c * self.channels // (c if self.last else a)

    def whole(self) -> np.ndarray:
        """All images, (N, C, H, W) uint8."""
        blocks = [self._convert(self.array[i : i + 1024]) for i in range(0, len(self), 1024)]
        return np.concatenate(blocks)

    def _convert(self, block: np.ndarray) -> np.ndarray:
        if self.last:
            block = np.moveaxis(block, -1, 1)
        if block.dtype == np.bool_:
            block = block * np.uint8(255)
        elif block.dtype != np.uint8:
            block = np.rint(block.astype(np.float32) * 255).astype(np.uint8)
        if self.channels == 3 and block.shape[1] == 1:
            block = np.repeat(block, 3, axis=1)
        if self.channels == 1 and block.shape[1] == 3:
            r, g, b = (block[:, c : c + 1].astype(np.uint32) for c in range(3))
            # ITU-R 601 luma in the fixed point that Pillow uses, so files and arrays agree
            block = ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16).astype(np.uint8)
        return np.ascontiguousarray(block)


def _four_axes(array: np.ndarray, label: str, layout: str | None) -> tuple[np.ndarray, bool]:
    """The array with four axes, and whether the channels are last."""
    shape = array.shape
    if layout not in (None, "NHWC", "NCHW"):
        raise UsageError(f'layout {layout!r} is unknown; use "NHWC" or "NCHW"')
    if array.ndim == 2:
        array = array[None, None]
    elif array.ndim == 3 and shape[-1] == 3:
        array = array[None]
    elif array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.size == 0:
        raise ShapeError(
            f"{label} has shape {shape}; images need (N, H, W), (N, H, W, C) or (N, C, H, W), "
            "none of them empty"
        )
    first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
    if array.ndim != len(shape):  # axes were added above: it is clear which
        return array, len(shape) == 3 and shape[-1] == 3
    if layout is None and first and last:
        raise ShapeError(f'{label} has shape {shape}: say layout="NHWC" or layout="NCHW"')
    if not (last if layout == "NHWC" else first if layout == "NCHW" else first or last):
        raise ShapeError(f"{label} has shape {shape}; images need 1 or 3 channels")
    return array, layout == "NHWC" or (layout is None and last)


def _check_values(array: np.ndarray, label: str) -> None:
    if array.dtype in (np.uint8, np.bool_):
        return
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"{label} holds {array.dtype}; convert it to uint8 (0..255) or to float in [0, 1]"
        )
    for start in range(0, len(array), 1024):
        block = array[start : start + 1024]
        low, high = float(block.min()), float(block.max())
        if not 0 <= low <= high <= 1:  # also false for NaN
            raise InputError(
                f"{label} has float values from {low:g} to {high:g}; rescale them to [0, 1] or "
                "save them as uint8 (0..255)"
            )


def is_idx(path: Path) -> bool:
    """Whether a file starts like an IDX file, raw or gzipped."""
    try:
        with open(path, "rb") as file:
            head = file.read(4)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                head = file.read(4)
    except (OSError, EOFError, zlib.error):
        return path.suffix.lower() == ".gz"
    return head[:2] == b"\0\0" and head[2:3] in b"\x08\x09\x0b\x0c\x0d\x0e" and len(head) == 4


def idx_parts(folder: Path) -> dict[str, Path]:
    """{"train": file, "t10k": file} of a folder with MNIST's files, also those of its followers.

    Fashion-MNIST, KMNIST and EMNIST name theirs alike: PART-images-idx3-ubyte, with .gz or without.
    """
    found = {}
    for path in sorted(folder.iterdir(), key=lambda p: p.suffix != ".gz"):  # unpacked files win
        match = re.fullmatch(r"(.+)-images[-.]idx3-ubyte(\.gz)?", path.name)
        if match and path.is_file():
            found[match[1]] = path
    return dict(sorted(found.items()))


def load_idx(path: Path) -> np.ndarray:
    """The images of an IDX file (raw or gzipped) as (N, 1, H, W) uint8.

    The format: two zero bytes, a type code (8 is uint8), the number of axes, the axes as big-endian
    32-bit integers, the values.
    """
    data = read_file(path)
    if data[:2] == b"\x1f\x8b":
        try:
            data = _unpacked(data, path)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is damaged or cut off ({error}); copy it again") from error
    if len(data) < 4 or data[:2] != b"\0\0":
        raise InputError(f"{path} is not an IDX file; give images, an archive or an array")
    if data[2] != 8:
        raise InputError(f"{path} holds IDX values of type {data[2]:#x}; images need uint8 (0x8)")
    axes = data[3]
    if axes != 3:
        what = "labels" if axes == 1 else f"arrays of {axes} axes"
        raise InputError(f"{path} holds {what}, not images (N, H, W); give the images file")
    shape = tuple(int.from_bytes(data[4 + 4 * k : 8 + 4 * k], "big") for k in range(axes))
    values = np.frombuffer(data, np.uint8, offset=min(4 + 4 * axes, len(data)))
    expected = shape[0] * shape[1] * shape[2]
    if values.size != expected or expected == 0:
        raise InputError(
            f"{path} has {values.size} pixels where its header says {expected}; copy it again"
        )
    return values.reshape(shape[0], 1, *shape[1:])


def _unpacked(data: bytes, path: Path) -> bytes:
    """As much of a gzipped IDX file as its header declares, and a byte more if there is one."""
    with gzip.open(io.BytesIO(data)) as file:
        head = file.read(16)
        sizes = [int.from_bytes(head[i : i + 4], "big") for i in range(4, len(head) - 3, 4)]
        declared = math.prod(sizes) if len(head) == 16 else 0
        check_expansion(str(path), declared, file_size(path))
        return head + file.read(declared + 1)


def digits() -> np.ndarray:
    """scikit-learn's handwritten digits, (1797, 1, 8, 8) uint8, 0..16 scaled to 0..255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InnverseError('the "digits" need scikit-learn: pip install scikit-learn') from None
    images = load_digits().images
    return np.rint(images * (255 / 16)).astype(np.uint8)[:, None]
