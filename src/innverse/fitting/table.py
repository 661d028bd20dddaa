"""Data as people have them, an array, a DataFrame or a loader, as tensors in rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.floats import as_floats
from ..errors import InputError, ShapeError


def is_loader(data: Any) -> bool:
    """Whether ``data`` gives batches one after the other instead of being an array."""
    return hasattr(data, "__iter__") and not (
        isinstance(data, (Tensor, np.ndarray, list, tuple, str)) or hasattr(data, "to_numpy")
    )


def as_rows(values: Any, name: str = "x") -> Tensor:
    """A tensor (N, ...) of numbers from a tensor, numpy array, DataFrame, Series or list.

    float32 and float64 keep their type, bytes stay bytes (images); the rest see `as_floats`.

    Raises:
        InputError: not numbers, empty, or NaN or infinite somewhere; says which column.
        ShapeError: a single number.
    """
    columns = list(getattr(values, "columns", ()))
    for column in columns:
        kind = getattr(getattr(values[column], "dtype", None), "kind", "f")
        if kind not in "fiub":
            raise InputError(
                f"column {column!r} of {name} holds no numbers ({values[column].dtype}): leave it "
                "out or encode it as numbers"
            )
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    bytes_ = getattr(values, "dtype", None) in (torch.uint8, np.uint8)
    rows = torch.as_tensor(values) if bytes_ else as_floats(values, name).detach()
    if rows.dim() == 0:
        raise ShapeError(f"{name} is a single number: give rows (N, ...)")
    if rows.numel() == 0:
        raise InputError(f"{name} is empty: its shape is {tuple(rows.shape)}")
    _check_finite(rows, columns, name)
    return rows


def _check_finite(rows: Tensor, columns: list, name: str) -> None:
    if not rows.is_floating_point():
        return
    bad = ~torch.isfinite(rows).flatten(1).all(1) if rows.dim() > 1 else ~torch.isfinite(rows)
    if bool(bad.any()):
        where = ""
        if columns:
            of_column = ~torch.isfinite(rows).all(0)
            where = f" (column {columns[int(of_column.int().argmax())]!r})"
        raise InputError(
            f"{int(bad.sum())} of {len(rows)} rows of {name} contain NaN or infinite values{where}:"
            " leave them out"
        )
