"""Tables of numbers in files: .npy, .csv or .txt, HDF5. Never pickle, which runs code."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from ..errors import InnverseError, InputError
from .expansion import check_arrays, check_expansion, file_size

_UNPICKLE = (
    "is a pickle, which can run any code when it is opened, so innverse does not; if you trust it, "
    'convert it once: python -c "import pandas, numpy; '
    "numpy.save('{stem}.npy', pandas.read_pickle('{name}').to_numpy(float))\""
)


def read_numbers(path: Path, key: str | None = None, columns: int | None = None) -> np.ndarray:
    """A table (N, D) of float64 from a file.

    Args:
        path: ``.npy``; ``.csv`` or ``.txt`` with commas or blanks, with a header line or without;
            ``.h5`` or ``.hdf5``.
        key: the data set of an HDF5 file; None where there is only one.
        columns: read that many columns of a text file and ignore others.

    Raises:
        InputError: it cannot be read, is a pickle, or holds no finite numbers in rows.
        InnverseError: HDF5 without h5py.
    """
    suffix = path.suffix.lower()
    if suffix in (".pickle", ".pkl", ".p"):
        raise InputError(f"{path} {_UNPICKLE.format(stem=path.stem, name=path.name)}")
    if suffix not in _READERS:
        raise InputError(f"{path}: tables are read from {', '.join(_READERS)}; convert it to .npy")
    if not os.path.isfile(path):
        raise InputError(f"no such file: {path}")
    table = np.asarray(_READERS[suffix](path, key, columns))
    if table.ndim != 2 or table.size == 0 or table.dtype.kind not in "fiub":
        raise InputError(f"{path} holds {table.dtype} of shape {table.shape}, not rows of numbers")
    if table.dtype.kind in "iu" and bool((np.abs(table) > 2**53).any()):
        raise InputError(f"{path} holds whole numbers beyond 2^53, which float64 cannot hold")
    table = table.astype(np.float64)
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{path}: row {row}, column {column} is {table[row, column]}; remove such rows"
        )
    return table


def _npy(path: Path, key, columns) -> np.ndarray:
    check_arrays(path)
    try:
        table = np.load(path, allow_pickle=False)
        if not isinstance(table, np.ndarray):
            raise ValueError("it is a .npz")
        return table
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise InputError(f"{path} {_UNPICKLE.format(stem=path.stem, name=path.name)}") from None
        raise InputError(
            f"{path} is damaged or not a numpy file ({error}); save it again"
        ) from None


def _text(path: Path, key, columns: int | None) -> np.ndarray:
    try:
        with open(path, encoding="utf-8-sig") as file:
            first, second = file.readline(), file.readline()
        delimiter = "," if "," in (second or first) else None
        header = not all(_is_number(word) for word in first.split(delimiter) if word.strip())
        chosen = None if columns is None else range(columns)
        return np.loadtxt(
            path, delimiter=delimiter, skiprows=int(header), usecols=chosen, ndmin=2,
            encoding="utf-8-sig",
        )  # fmt: skip
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not a table of numbers: {error}") from None


def _hdf5(path: Path, key: str | None, columns) -> np.ndarray:
    try:
        import h5py
    except ImportError:
        raise InnverseError(f'{path} needs h5py: pip install "innverse[science]"') from None
    try:
        with h5py.File(path, "r") as file:
            names = [name for name in file if isinstance(file[name], h5py.Dataset)]
            if key is None and len(names) == 1:
                key = names[0]
            if key not in names:
                raise InputError(
                    f"{path} has no data set {key!r}; it has: {', '.join(names) or 'none'}"
                )
            check_expansion(f"{path}: {key}", file[key].nbytes, file_size(path))
            return file[key][()]
    except OSError as error:
        raise InputError(f"{path} is damaged or not HDF5 ({error})") from None


_READERS = {".npy": _npy, ".csv": _text, ".txt": _text, ".h5": _hdf5, ".hdf5": _hdf5}


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
