"""The tables on which density estimators are compared: POWER, GAS, HEPMASS, MINIBOONE, BSDS300.

Cleaned and split as in Papamakarios et al. 2017 (arXiv 1705.07057) and its code
(github.com/gpapamak/maf), so log-likelihoods can be compared with the published ones. The data are
the user's: download them there, or from the UCI repository, and give the path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, unknown
from .numbers import read_numbers


@dataclass(frozen=True)
class Table:
    """Rows (N, D), float32, for training, validation and the final test."""

    train: Tensor
    validation: Tensor
    test: Tensor


def names() -> list[str]:
    """The tables there are."""
    return list(_TABLES)


def open_table(name: str, path: str | Path) -> Table:
    """A benchmark table, from the files that the maf repository unpacks.

    ============  ==========================================  ====  ==============================
    ``name``      files                                        D    cleaning
    ============  ==========================================  ====  ==============================
    "power"       power/data.npy                                6   dequantised by noise, shuffled
    "gas"         gas/ethylene_CO (.npy, .csv, .txt)            8   sensors alike above .98 dropped
    "hepmass"     hepmass/1000_train.csv and 1000_test.csv     21   signal only, no discrete columns
    "miniboone"   miniboone/data.npy                           43   none
    "bsds300"     BSDS300/BSDS300.hdf5                         63   none
    ============  ==========================================  ====  ==============================

    A tenth is for the test and a tenth of the rest for validation where the files do not say; all
    but BSDS300 are standardised.

    Args:
        name: one of `names`.
        path: the folder that holds those folders, the folder of this table, or its file.

    Raises:
        UsageError: an unknown name.
        InputError: a file is missing, damaged, or a pickle (which is never opened).
        InnverseError: BSDS300 without h5py.

    Example:
        >>> import numpy as np
        >>> np.save("data.npy", np.random.default_rng(0).normal(size=(100, 43)))
        >>> table = open_table("miniboone", "data.npy")
        >>> table.train.shape, table.validation.shape, table.test.shape
        (torch.Size([81, 43]), torch.Size([9, 43]), torch.Size([10, 43]))
    """
    if name not in _TABLES:
        raise unknown("table", name, _TABLES)
    parts = _TABLES[name](Path(path))
    return Table(*(torch.from_numpy(np.ascontiguousarray(p, dtype=np.float32)) for p in parts))


Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


def _power(path: Path) -> Parts:
    x = read_numbers(_find(path, "power", "data", (".npy", ".csv")))
    _check_columns("power", x, 8)
    rng = np.random.RandomState(42)  # that of the published splits
    rng.shuffle(x)
    n = len(x)
    x = np.delete(x, (1, 3), axis=1)  # global reactive power and intensity: nearly functions
    # the columns are rounded: noise of one unit in the last place makes a density of them
    voltage, gap = 0.01 * rng.rand(n, 1), 0.001 * rng.rand(n, 1)
    meters, time = rng.rand(n, 3), np.zeros((n, 1))
    return _standardised(*_tenths(x + np.hstack((gap, voltage, meters, time))))


def _gas(path: Path) -> Parts:
    x = read_numbers(_find(path, "gas", "ethylene_CO", (".npy", ".csv", ".txt", ".pickle")))
    _check_columns("gas", x, 19)
    x = x[:, 3:]  # after time and the two concentrations come the 16 sensors
    while True:
        alike = (np.corrcoef(x.T) > 0.98).sum(1)
        if alike.max() <= 1:
            break
        x = np.delete(x, np.flatnonzero(alike > 1)[0], axis=1)
    return _tenths((x - x.mean(0)) / x.std(0, ddof=1))  # by all rows, as published


def _hepmass(path: Path) -> Parts:
    train = read_numbers(_find(path, "hepmass", "1000_train", (".csv", ".npy")))
    # rows of the published test file have one value more than its header
    file = _find(path, "hepmass", "1000_test", (".csv", ".npy"))
    test = read_numbers(file, columns=train.shape[1])[:, : train.shape[1]]
    train, test = (x[x[:, 0] == 1][:, 1:] for x in (train, test))
    if not len(train) or not len(test):
        raise InputError(f"{path}: no row of hepmass has the label 1 in its first column")
    mean, std = train.mean(0), train.std(0, ddof=1)
    train, test = (train - mean) / std, (test - mean) / std
    discrete = [np.unique(column, return_counts=True)[1].max() > 5 for column in train.T]
    train, test = train[:, ~np.array(discrete)], test[:, ~np.array(discrete)]
    n = len(train) // 10
    return train[:-n], train[-n:], test


def _miniboone(path: Path) -> Parts:
    return _standardised(*_tenths(read_numbers(_find(path, "miniboone", "data", (".npy", ".csv")))))


def _bsds300(path: Path) -> Parts:
    file = _find(path, "BSDS300", "BSDS300", (".hdf5", ".h5"))
    train, validation, test = (read_numbers(file, k) for k in ("train", "validation", "test"))
    return train, validation, test


_TABLES: dict[str, Callable[[Path], Parts]] = {
    "power": _power,
    "gas": _gas,
    "hepmass": _hepmass,
    "miniboone": _miniboone,
    "bsds300": _bsds300,
}


def _tenths(x: np.ndarray) -> Parts:
    """The last tenth for the test, the last tenth of the rest for validation."""
    n = len(x) // 10
    rest, test = x[: len(x) - n], x[len(x) - n :]
    n = len(rest) // 10
    return rest[: len(rest) - n], rest[len(rest) - n :], test


def _standardised(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> Parts:
    seen = np.vstack((train, validation))
    mean, std = seen.mean(0), seen.std(0)
    return (train - mean) / std, (validation - mean) / std, (test - mean) / std


def _find(path: Path, folder: str, stem: str, suffixes: tuple[str, ...]) -> Path:
    """The file of a table: ``path`` itself, or in it, or in its folder of that name."""
    if path.is_file():
        beside = path.with_name(stem + path.suffix)  # of hepmass's two files, the one asked for
        return beside if beside.is_file() else path
    tried = [place / (stem + s) for place in (path, path / folder) for s in suffixes]
    for file in tried:
        if file.is_file():
            return file
    raise InputError(f"{path} has no {stem}{suffixes[0]}, and no {folder}/{stem}{suffixes[0]}")


def _check_columns(name: str, x: np.ndarray, expected: int) -> None:
    if x.shape[1] != expected:
        raise InputError(f"{name} has {expected} columns in its published file, not {x.shape[1]}")
