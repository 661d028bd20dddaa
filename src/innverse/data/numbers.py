"""Tables of numbers in files: .npy, .csv or .txt, HDF5. Never pickle, which runs code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError
from .floats import as_floats
from .formats import hdf5
from .npy import load_numpy
from .text import read_numbers_of_text

_SUFFIXES = (".npy", ".csv", ".txt", ".h5", ".hdf5")
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
    if suffix not in _SUFFIXES:
        raise InputError(f"{path}: tables are read from {', '.join(_SUFFIXES)}; convert it to .npy")
    if not os.path.isfile(path):
        raise InputError(f"no such file: {path}")
    if suffix == ".npy":
        table = load_numpy(path)
    elif suffix in (".csv", ".txt"):
        table = np.asarray(read_numbers_of_text(path, columns))
    else:
        table = hdf5.array(path, key, _only)
    if table.ndim != 2 or table.size == 0 or table.dtype.kind not in "fiub":
        raise InputError(f"{path} holds {table.dtype} of shape {table.shape}, not rows of numbers")
    table = as_floats(table, str(path)).double().numpy()
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{path}: row {row}, column {column} is {table[row, column]}; remove such rows"
        )
    return table


def _only(names: Mapping[str, object], key: str | None, path: str) -> str:
    """The name of the only data set of a file, or ``key``."""
    if key is None and len(names) == 1:
        (key,) = names
    if key is None or key not in names:
        raise InputError(f"{path} has no data set {key!r}; it has: {', '.join(names) or 'none'}")
    return key
