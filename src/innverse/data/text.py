"""Tables as text: CSV, and numbers between blanks."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..reading import open_regular
from .floats import EXACT


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header line of a CSV file and its rows, each as long as the header; empty lines are left out.

    Raises:
        InputError: it cannot be read, has no row, or one of another length.
    """
    with io.TextIOWrapper(open_regular(path), "utf-8-sig", newline="") as file:
        try:
            rows = [row for row in csv.reader(file) if row]
        except (UnicodeDecodeError, csv.Error):
            raise InputError(f"cannot read {path}: not a text table") from None
    if len(rows) < 2:
        raise InputError(f"{path}: give a header line and one line per row")
    header = [name.strip() for name in rows[0]]
    for i, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise InputError(f"{path}, line {i}: {len(row)} values for {len(header)} columns")
    return header, rows[1:]


def exact_number(text: str) -> float:
    """The number that a cell holds, NaN if it is empty.

    Raises:
        ValueError: it is none, or a whole number of which float64 loses digits.
    """
    text = text.strip()
    try:
        value = float(text) if text else np.nan
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
    if len(text) > 15 and abs(value) >= EXACT and _is_other_integer(text, value):
        raise ValueError(f"float64 cannot hold all digits of {text}")
    return value


def read_numbers_of_text(path: Path, columns: int | None = None) -> np.ndarray:
    """Rows (N, D) of numbers between commas or blanks, under a header line or without one.

    Args:
        columns: read that many and ignore others.

    Raises:
        InputError: it cannot be read, or holds other things.
    """
    with io.TextIOWrapper(open_regular(path), "utf-8-sig") as file:
        try:
            first, second = file.readline(), file.readline()
            delimiter = "," if "," in (second or first) else None
            header = not all(_is_number(word) for word in first.split(delimiter) if word.strip())
            file.seek(0)
            chosen = None if columns is None else range(columns)
            return np.loadtxt(
                file, delimiter=delimiter, skiprows=int(header), usecols=chosen, ndmin=2
            )
        except ValueError as error:
            raise InputError(f"{path} is not a table of numbers: {error}") from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _is_other_integer(text: str, value: float) -> bool:
    """Whether a whole number lost digits on its way to float64."""
    try:
        return int(text) != int(value)
    except (ValueError, OverflowError):
        return False
