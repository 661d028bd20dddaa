"""Columns of tables in files: CSV with a header, parquet, .npy, or the arrays of a .npz."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InnverseError, InputError, UsageError
from ..reading import open_regular
from .floats import as_floats
from .npy import array_names, load_numpy
from .text import exact_number, read_csv

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
    if suffix in (".npz", ".npy"):
        return _from_arrays(path, which), None
    if suffix in (".csv", ".txt"):
        return _from_csv(path, which)
    if suffix in (".parquet", ".pq"):
        return _from_parquet(path, which)
    raise UsageError(f"{path}: give tables as .csv (with a header), .parquet, .npz or .npy")


def _from_arrays(path: Path, which: Columns) -> Tensor:
    names = array_names(path)
    if names and not isinstance(which, str) and (which is not None or len(names) > 1):
        raise UsageError(f"{path}: name one array of the .npz, which has {', '.join(names)}")
    which = which if names and isinstance(which, str) else None  # a .npy has but one
    return as_floats(load_numpy(path, which), f"{path}: {which or 'the array'}")


def _from_csv(path: Path, which: Columns) -> tuple[Tensor, list[str]]:
    header, rows = read_csv(path)
    names = _columns(header, which, path)
    place = {name: k for k, name in enumerate(header)}
    index = [place[name] for name in names]
    values = np.empty((len(rows), len(index)))
    for i, row in enumerate(rows):
        for j, k in enumerate(index):
            try:
                values[i, j] = exact_number(row[k])
            except ValueError as error:
                raise InputError(f"{path}, line {i + 2}, {header[k]}: {error}") from None
    return torch.from_numpy(values), names


def _from_parquet(path: Path, which: Columns) -> tuple[Tensor, list[str]]:
    try:
        import pyarrow  # ty: ignore[import-not-found] - optional
        from pyarrow import parquet  # ty: ignore[import-not-found]
    except ImportError:
        raise InnverseError(f'{path} needs pyarrow: pip install "innverse[parquet]"') from None
    open_regular(path).close()  # a pipe would be waited for
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


def _flat(numbers: list) -> list:
    """A list of numbers or of lists of them as one."""
    return [v for n in numbers for v in (n if isinstance(n, list) else [n])]
