"""Columns of tables in files: CSV with a header, parquet, .npy, or the arrays of a .npz."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InnverseError, InputError, UsageError
from ..reading import open_regular
from .expansion import check_arrays
from .floats import as_floats

_EXACT = 2**53  # float64 holds all whole numbers up to here
Columns = str | Sequence[str] | None


def read_columns(
    path: str | Path, which: Columns = None, default: Columns = None
) -> tuple[Tensor, list[str] | None]:
    """Numbers (N, ...) of float64 (a .npz keeps its float32), and the names of their columns.

    Args:
        path: ``.csv`` with a header line, ``.parquet``, ``.npz`` or ``.npy``.
        which: of a CSV or parquet file the columns, as a list of names or a prefix ("x" takes x,
            x0, x_1, x[2], x_speed ...); of a .npz the name of the array. A column of lists is a vector.
        default: what ``which`` is if it is None; if that is None too, it is all columns, and of a
            .npz its only array.

    Raises:
        InputError: the file cannot be read, lacks what was asked for, has two columns of that name,
            or whole numbers that float64 cannot hold.
        UsageError: another kind of file.
    """
    path = Path(path)
    which = default if which is None else which
    suffix = path.suffix.lower()
    if os.path.lexists(path):
        open_regular(path).close()  # a pipe would be waited for
    if suffix in (".npz", ".npy"):
        if os.path.isfile(path):
            check_arrays(path)
        return _from_arrays(path, which), None
    if suffix in (".csv", ".txt"):
        return _from_csv(path, which)
    if suffix in (".parquet", ".pq"):
        return _from_parquet(path, which)
    raise UsageError(f"{path}: give tables as .csv (with a header), .parquet, .npz or .npy")


def _from_arrays(path: Path, which: Columns) -> Tensor:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            array, which = loaded, "array"
        else:
            with loaded as arrays:
                if which is None and len(arrays.files) == 1:
                    which = arrays.files[0]
                if not isinstance(which, str):
                    has = ", ".join(arrays.files)
                    raise UsageError(f"{path}: name one array of the .npz, which has {has}")
                if which not in arrays.files:
                    has = ", ".join(arrays.files)
                    raise InputError(f"{path} has no array {which!r}: it has {has}")
                array = arrays[which]
    except (UsageError, InputError):
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or 'not an array file'}") from None
    except Exception:  # numpy has many ways to say so
        raise InputError(f"cannot read {path}: not a file of numeric arrays") from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"{path}: array {which!r} holds {array.dtype}, not numbers")
    return as_floats(array, f"{path}: {which}")


def _from_csv(path: Path, which: Columns) -> tuple[Tensor, list[str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"cannot read {path}: not a text table") from None
    rows = [row for row in rows if row]
    if len(rows) < 2:
        raise InputError(f"{path}: give a header line and one line per row")
    header = [name.strip() for name in rows[0]]
    names = _columns(header, which, path)
    place = {name: k for k, name in enumerate(header)}
    index = [place[name] for name in names]
    values = np.empty((len(rows) - 1, len(index)))
    for i, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise InputError(f"{path}, line {i}: {len(row)} values for {len(header)} columns")
        for j, k in enumerate(index):
            text = row[k].strip()
            try:
                value = values[i - 2, j] = float(text) if text else np.nan
            except ValueError:
                raise InputError(f"{path}, line {i}, {header[k]}: {text!r} is no number") from None
            if len(text) > 15 and abs(value) >= _EXACT and _is_other_integer(text, value):
                raise InputError(
                    f"{path}, line {i}, {header[k]}: float64 cannot hold all digits of {text}"
                )
    return torch.from_numpy(values), names


def _from_parquet(path: Path, which: Columns) -> tuple[Tensor, list[str]]:
    try:
        import pyarrow  # ty: ignore[import-not-found] - optional
        from pyarrow import parquet  # ty: ignore[import-not-found]
    except ImportError:
        raise InnverseError(f'{path} needs pyarrow: pip install "innverse[parquet]"') from None
    try:
        names = _columns(parquet.read_schema(path).names, which, path)
        table = parquet.read_table(path, columns=names)
    except OSError as error:  # pyarrow's own errors of damaged files are among them
        raise InputError(f"cannot read {path}: {error.strerror or 'damaged'}") from None
    except pyarrow.ArrowException:
        raise InputError(f"cannot read {path}: not a parquet file") from None
    columns, labels = [], []
    for name in names:
        column = table.column(name)
        try:
            numbers = column.to_pylist()
            values = np.array(numbers, np.float64)  # None becomes NaN
        except (TypeError, ValueError):
            raise InputError(
                f"{path}, column {name}: {column.type} are no numbers, or lists of several lengths"
            ) from None
        if "int64" in str(column.type):
            as_floats([n or 0 for n in _flat(numbers)], f"{path}, column {name}")
        columns.append(values.reshape(len(values), -1))
        width = columns[-1].shape[1]
        labels += [name] if values.ndim == 1 else [f"{name}[{i}]" for i in range(width)]
    return torch.from_numpy(np.concatenate(columns, 1)), labels


def _columns(header: list[str], which: Columns, path: Path) -> list[str]:
    if which is None:
        which = [name for name in header if name]
    if isinstance(which, str):
        # "theta" takes theta1 and theta_rate, "theta_" the latter, and neither takes thetas
        tail = r".*" if which.endswith(("_", ".")) else r"(\d+|[_.\[].*)?"
        wanted = re.compile(re.escape(which) + tail)
        found = [name for name in header if which and wanted.fullmatch(name)]
        if not found:
            raise InputError(
                f"{path} has no column {which!r}: it has {', '.join(header)}; name the columns "
                "as a list"
            )
    else:
        found, known = list(which), set(header)
        missing = next((name for name in found if name not in known), None)
        if missing is not None:
            raise InputError(f"{path} has no column {missing!r}: it has {', '.join(header)}")
    places = Counter(header)
    for name, times in Counter(found).items():
        if places[name] > 1:
            where = [k for k, other in enumerate(header, 1) if other == name]
            raise InputError(
                f"{path}: columns {' and '.join(map(str, where))} are both called {name!r}: rename "
                "one, or name the columns to take as a list"
            )
        if times > 1:
            raise InputError(f"{path}: column {name!r} is asked for {times} times")
    return found


def _is_other_integer(text: str, value: float) -> bool:
    """Whether a whole number lost digits on its way to float64."""
    try:
        return int(text) != int(value)
    except (ValueError, OverflowError):
        return False


def _flat(numbers: list) -> list:
    """A list of numbers or of lists of them as one."""
    return [v for n in numbers for v in (n if isinstance(n, list) else [n])]
