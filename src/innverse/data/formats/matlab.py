"""MATLAB: a numeric variable of a .mat file, of version 5 (scipy) or 7.3 (which is HDF5).

Pictures are H x W, H x W x 3 or H x W x N there; three slices of a measured quantity are no
colours. The arrays of a cell are named as in MATLAB,
``kernels{1}`` the first. Objects and functions are refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InnverseError, InputError
from ...reading import open_regular
from ..atomic import atomic_path, atomic_write
from ..expansion import HARMLESS, check_expansion, file_size
from ..stack import Stack, as_type, chosen, elements, found_range, from_slices, to_slices
from . import hdf5

_SIZES = {
    "int8": 1, "uint8": 1, "logical": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4,
    "single": 4, "int64": 8, "uint64": 8, "double": 8, "sparse": 8,
}  # fmt: skip
_MOST = 1024  # times that deflate makes of its input, at most
_CELLS = 10_000  # arrays of a cell, at most
_HEADER = 512  # bytes before the HDF5 of version 7.3

Entry = tuple[tuple[int, ...], Callable[[], np.ndarray]]
"""The shape of an array, and what loads it."""


def array(path: Path, name: str | None) -> np.ndarray:
    """A variable by name, or the only one that may be a picture, with MATLAB's order of axes."""
    return _load(path, name)[1]


def read(path: Path, name: str | None) -> Stack:
    name, values, modern = _load(path, name)
    label = f"{path}:{name}"
    colour = values.ndim == 3 and values.shape[2] == 3 and found_range(values, label)[1]
    turned = values if colour or values.ndim < 2 else np.moveaxis(values, (0, 1), (-2, -1))
    slices = to_slices(turned, label)
    x_range, white = found_range(slices, label)
    return Stack(slices, label, x_range, white, kept=(name, turned.shape, colour, modern))


def write(path: Path, stack: Stack, values: np.ndarray, spread: bool) -> Path:
    name, shape, colour, modern = stack.kept
    values = from_slices(values, shape)
    values = values if colour else np.moveaxis(values, (-2, -1), (0, 1))
    values = as_type(values, np.dtype(np.float32) if spread else stack.values.dtype)
    if not modern:
        from scipy.io import savemat

        return atomic_write(path, lambda file: savemat(file, {name: values}, do_compression=True))
    import h5py

    with atomic_path(path) as temporary:
        with h5py.File(temporary, "w", userblock_size=_HEADER) as file:
            dataset = file.create_dataset(name, data=values.T, compression="gzip")
            kind = {"float32": "single", "float64": "double"}.get(
                str(values.dtype), str(values.dtype)
            )
            dataset.attrs["MATLAB_class"] = np.bytes_(kind)
        with open(temporary, "r+b") as file:
            text = b"MATLAB 7.3 MAT-file, written by innverse".ljust(124) + b"\x00\x02IM"
            file.write(text.ljust(_HEADER, b"\0"))
    return path


@contextmanager
def opened(path: Path) -> Generator[tuple[dict[str, Entry], bool]]:
    """The arrays of numbers in a file by their names, and whether it is of version 7.3.

    An array is loaded when it is asked for, with MATLAB's order of axes. Variables come in the order of
    the file, cells after them.

    Raises:
        InputError: damaged, or an array that would fill the memory. InnverseError: its library is
            missing.
    """
    with open_regular(path) as file:
        head = file.read(_HEADER + 8)
    if b"\x89HDF" in (head[:4], head[_HEADER : _HEADER + 4]):
        with hdf5.opened(path) as file:
            yield _modern(file, path), True
    else:
        yield _old(path), False


def arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of numbers in a file, those of cells too, see `opened`."""
    with opened(path) as (entries, _):
        return {name: entry() for name, (_, entry) in entries.items()}


def _load(path: Path, name: str | None) -> tuple[str, np.ndarray, bool]:
    """(name, values, whether it is version 7.3)."""
    with opened(path) as (entries, modern):
        name = chosen({n: shape for n, (shape, _) in entries.items()}, name, str(path))
        return name, entries[name][1](), modern


def _old(path: Path) -> dict[str, Entry]:
    """The arrays of version 5."""
    try:
        from scipy.io import loadmat, whosmat
    except ImportError:
        raise InnverseError(f'{path} needs scipy: pip install "innverse[io]"') from None

    def variable(name: str) -> np.ndarray:
        with _told(path):
            values = loadmat(path, variable_names=[name])[name]
        return values.toarray() if hasattr(values, "toarray") else values

    def numbers(name: str, size: int) -> np.ndarray:
        check_expansion(f"{path}: {name}", size, file_size(path))
        return _native(variable(name))

    with _told(path):
        about = whosmat(path)
    entries: dict[str, Entry] = {
        n: (shape, partial(numbers, n, elements(shape) * _SIZES[kind]))
        for n, shape, kind in about
        if kind in _SIZES
    }
    if _MOST * file_size(path) < HARMLESS:  # how much a cell holds is known once it is there
        for name in (n for n, _, kind in about if kind == "cell"):
            for place, values in _inside(name, variable(name)):
                entries[place] = values.shape, partial(_native, values)
    return entries


@contextmanager
def _told(path: Path) -> Generator[None]:
    """What scipy raises of damaged files, which is almost anything, as one line."""
    try:
        yield
    except (Exception, zlib.error) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path} is damaged or no MATLAB file ({reason})") from None


def _native(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _inside(name: str, cell: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of numbers in a cell and in cells of it, by their names in MATLAB."""
    for k, values in enumerate(cell.ravel(order="F"), 1):
        if isinstance(values, np.ndarray) and values.dtype == object:
            yield from _inside(f"{name}{{{k}}}", values)
        elif isinstance(values, np.ndarray) and values.dtype.kind in "fiubc":
            yield f"{name}{{{k}}}", values


def _modern(file: Any, path: Path) -> dict[str, Entry]:
    """The arrays of version 7.3, whose axes HDF5 has the other way round."""
    shapes = {
        place: shape
        for place, shape in hdf5.numeric(file).items()
        if not file[place].attrs.get("MATLAB_empty") and _kind(file[place]) != b"char"
    }
    places = {name: name for name in shapes if not name.startswith("#")}
    for name, item in file.items():
        places |= {n: place for n, place in _referred(file, name, item) if place in shapes}
    return {
        name: (shapes[place][::-1], partial(_turned, file, place, path))
        for name, place in places.items()
    }


def _kind(dataset: Any) -> bytes:
    kind = dataset.attrs.get("MATLAB_class", b"")
    return kind.encode() if isinstance(kind, str) else bytes(kind)


def _turned(file: Any, place: str, path: Path) -> np.ndarray:
    return hdf5.load(file, place, path).T


def _referred(file: Any, name: str, item: Any, depth: int = 8) -> Iterator[tuple[str, str]]:
    """(name in MATLAB, name in the file) of what the references of a cell lead to."""
    cell = hasattr(item, "dtype") and item.dtype.kind == "O" and item.size <= _CELLS
    if depth and cell:
        for k, reference in enumerate(np.asarray(item[()]).T.ravel(order="F"), 1):
            if reference:
                inner = file[reference]
                yield f"{name}{{{k}}}", (inner.name or "").strip("/")
                yield from _referred(file, f"{name}{{{k}}}", inner, depth - 1)
