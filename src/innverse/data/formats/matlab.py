"""MATLAB: a numeric variable of a .mat file, of version 5 (scipy) or 7.3 (which is HDF5).

Pictures are H x W, H x W x 3 or H x W x N there. The arrays of a cell are named as in MATLAB,
``kernels{1}`` the first. Objects and functions are refused.
"""

from __future__ import annotations

import zlib
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


def array(path: Path, name: str | None) -> np.ndarray:
    """A variable by name, or the only one that may be a picture, with MATLAB's order of axes."""
    return _load(path, name)[1]


def read(path: Path, name: str | None) -> Stack:
    name, values, modern = _load(path, name)
    label = f"{path}:{name}"
    colour = values.ndim == 3 and values.shape[2] == 3
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


def _load(path: Path, name: str | None) -> tuple[str, np.ndarray, bool]:
    """(name, values, whether it is version 7.3)."""
    with open_regular(path) as file:
        head = file.read(_HEADER + 8)
    if b"\x89HDF" in (head[:4], head[_HEADER : _HEADER + 4]):
        with hdf5.opened(path) as file:
            numbers = hdf5.numeric(file)
            cells = _cells(file, numbers)
            known = {n: s[::-1] for n, s in numbers.items() if not n.startswith("#")}
            known |= {n: numbers[place][::-1] for n, place in cells.items()}
            name = chosen(known, name, str(path))
            return name, hdf5.load(file, cells.get(name, name), path).T, True
    try:
        from scipy.io import loadmat, whosmat
    except ImportError:
        raise InnverseError(f'{path} needs scipy: pip install "innverse[io]"') from None
    try:
        about = {n: (shape, kind) for n, shape, kind in whosmat(path)}
        numbers = {n: shape for n, (shape, kind) in about.items() if kind in _SIZES}
        cells: dict[str, np.ndarray] = {}
        if _MOST * file_size(path) < HARMLESS:  # how much a cell holds is known once it is there
            for n in (n for n, (_, kind) in about.items() if kind == "cell"):
                cells |= _numbered(n, loadmat(path, variable_names=[n])[n])
        numbers |= {n: values.shape for n, values in cells.items()}
        if name in about and name not in numbers:
            raise InputError(f"{path}: {name} is a {about[name][1]}, no array of numbers")
        name = chosen(numbers, name, str(path))
        if name in cells:
            return name, cells[name], False
        size = elements(numbers[name]) * _SIZES[about[name][1]]
        check_expansion(f"{path}: {name}", size, file_size(path))
        values = loadmat(path, variable_names=[name])[name]
    except InputError:
        raise
    except (Exception, zlib.error) as error:  # of damaged files scipy raises almost anything
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path} is damaged or no MATLAB file ({reason})") from None
    values = values.toarray() if hasattr(values, "toarray") else values
    return name, values.astype(values.dtype.newbyteorder("="), copy=False), False


def _numbered(name: str, cell: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of numbers in a cell, by their names in MATLAB."""
    items = enumerate(cell.ravel(order="F"), 1)
    return {
        f"{name}{{{k}}}": v
        for k, v in items
        if isinstance(v, np.ndarray) and v.dtype.kind in "fiubc"
    }


def _cells(file: Any, numbers: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """{name in MATLAB: name in the file} of the arrays in cells of version 7.3."""
    found: dict[str, str] = {}
    for name, item in file.items():
        if hasattr(item, "dtype") and item.dtype.kind == "O" and item.size <= _CELLS:
            for k, reference in enumerate(np.asarray(item[()]).T.ravel(order="F"), 1):
                place = (file[reference].name or "").strip("/") if reference else ""
                if place in numbers:
                    found[f"{name}{{{k}}}"] = place
    return found
