"""HDF5: one data set of it, written back under its name with its attributes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InnverseError, InputError
from ...reading import open_regular
from ..atomic import atomic_path
from ..expansion import check_expansion, file_size
from ..stack import Stack, as_type, chosen, elements, found_range, from_slices, to_slices

Choose = Callable[[dict[str, tuple[int, ...]], str | None, str], str]


@contextmanager
def opened(path: Path) -> Generator[Any]:
    """The open file, whose errors are one line."""
    try:
        import h5py
    except ImportError:
        raise InnverseError(f'{path} needs h5py: pip install "innverse[io]"') from None
    open_regular(path).close()  # a pipe would be waited for
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InnverseError:
        raise
    except Exception as error:  # of damaged files h5py raises almost anything
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path} is damaged or not HDF5 ({reason})") from None


def numeric(file: Any) -> dict[str, tuple[int, ...]]:
    """{name: shape} of the data sets that hold numbers; links to other files are not followed."""
    found: dict[str, tuple[int, ...]] = {}

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "dtype") and _is_number(item.dtype) and item.shape:
            found[name] = item.shape

    file.visititems(visit)
    return found


def load(file: Any, name: str, path: Path) -> np.ndarray:
    """The numbers of a data set; pairs (real, imag) are complex.

    Raises:
        InputError: no array of numbers, one that would fill the memory, or lies in other files.
    """
    dataset = file[name]
    if not (hasattr(dataset, "dtype") and _is_number(dataset.dtype)):
        raise InputError(f"{path}: {name} is no array of numbers")
    linked = dataset.file.filename != file.filename
    if linked or dataset.is_virtual or dataset.external:
        raise InputError(f"{path}: {name} lies in other files: copy it into this one")
    size = elements(dataset.shape) * dataset.dtype.itemsize
    check_expansion(f"{path}: {name}", size, file_size(path))
    values = dataset[()]
    if values.dtype.names:
        real, imaginary = (values[part] for part in values.dtype.names)
        values = real + 1j * imaginary
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def text(attribute: Any) -> str:
    """An attribute in words, whichever way a file holds it: bytes, or an array of one."""
    first = next(iter(np.asarray(attribute).ravel()), "")
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


def array(path: Path, name: str | None, choose: Choose = chosen) -> np.ndarray:
    """A data set by name, or the one that ``choose`` takes."""
    with opened(path) as file:
        return load(file, choose(numeric(file), name, str(path)), path)


def read(path: Path, name: str | None) -> Stack:
    with opened(path) as file:
        name = chosen(numeric(file), name, str(path))
        values, attributes = load(file, name, path), _attributes(file, name)
    label = f"{path}:{name}"
    slices = to_slices(values, label)
    x_range, white = found_range(slices, label)
    units = text(attributes.get(name, {}).get("units", ""))
    return Stack(slices, label, x_range, white, units, kept=(name, values.shape, attributes))


def write(path: Path, stack: Stack, values: np.ndarray, spread: bool) -> Path:
    import h5py

    name, shape, attributes = stack.kept
    array = from_slices(values, shape)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        dtype = np.dtype(np.float32) if spread else stack.values.dtype
        file.create_dataset(name, data=as_type(array, dtype), compression="gzip")
        for place, entries in attributes.items():
            for key, value in entries.items():
                (file[place] if place else file).attrs[key] = value
    return path


def _is_number(dtype: np.dtype) -> bool:
    if dtype.names:
        parts = [dtype[name].kind for name in dtype.names]
        return parts == ["f", "f"] and [n[:1].lower() for n in dtype.names] == ["r", "i"]
    return dtype.kind in "fiubc"


def _attributes(file: Any, name: str) -> dict[str, dict[str, Any]]:
    """Of the file, the groups on the way, and the data set."""
    parts = name.split("/")
    places = ["", *("/".join(parts[: k + 1]) for k in range(len(parts)))]
    found: dict[str, dict[str, Any]] = {}
    for place in places:
        entries = (file[place] if place else file).attrs
        # references point into the file that they are of
        found[place] = {k: v for k, v in entries.items() if np.asarray(v).dtype.kind in "fiubcSU"}
        found[place] |= {k: v for k, v in entries.items() if isinstance(v, str)}
    return found
