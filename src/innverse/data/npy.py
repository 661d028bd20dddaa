"""Arrays in .npy and .npz files: never a pickle, and none that would fill the memory."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import InputError, UsageError
from ..reading import open_regular
from .expansion import check_expansion, file_size


def load_numpy(path: Path, key: str | None = None) -> np.ndarray:
    """The array of a .npy file (memory-mapped) or of a .npz file (``key`` if it has several).

    Raises:
        InputError: missing, damaged, a pickle, no numbers, too large, or no such array.
        UsageError: a ``key`` for a single array.
    """
    open_regular(path).close()  # a pipe would be waited for
    for name, (_, size, stored) in _declared(path).items():
        check_expansion(f"{path}: {name}" if name else str(path), size, stored)
    try:
        data = np.load(path, mmap_mode="r" if path.suffix.lower() == ".npy" else None)
        if not isinstance(data, np.ndarray):
            with data:
                return _numeric(data[_chosen(data.files, key, path)], path)
    except InputError:
        raise
    except Exception as error:  # numpy has many ways to say so
        raise InputError(_broken(path, error)) from error
    if key is not None:
        raise UsageError(f"{path} is a single array and has no subset {key!r}; leave it out")
    return _numeric(data, path)


def array_names(path: Path) -> list[str]:
    """The arrays of a .npz file; none where there is no such file."""
    return [name for name in _declared(path) if name]


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """{name: shape} of the arrays of a .npz, or of "" in a .npy; none where there is no such file."""
    return {name: shape for name, (shape, *_) in _declared(path).items() if shape is not None}


def array_axes(path: Path) -> int | None:
    """How many axes the array of a .npy has, or the first of a .npz; None where there is none."""
    shape = next(iter(_declared(path).values()), (None,))[0]
    return None if shape is None else len(shape)


def _chosen(names: list[str], key: str | None, path: Path) -> str:
    if key is None:
        usual = [name for name in ("images", "x", "data", "x_train", "arr_0") if name in names]
        key = names[0] if len(names) == 1 else (usual or [None])[0]
    if key is None or key not in names:
        which = "which array?" if key is None else f"no array {key!r};"
        raise InputError(f"{path}: {which} it has: {', '.join(names)} (choose one as the subset)")
    return key


def _numeric(array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind not in "fiubc":
        raise InputError(f"{path} holds {array.dtype}; save real numbers (float32)")
    return array


def _broken(path: Path, error: Exception) -> str:
    if "pickle" in str(error) or "Python objects" in str(error):
        return (
            f"{path} is not a plain numeric numpy array: it is a pickle, which can run any code when "
            "it is opened; save numbers, images as uint8, with numpy.save"
        )
    reason = " ".join(str(error).split())[:100] or type(error).__name__
    return f"{path} is damaged or not a numpy file ({reason}); save it again"


def _declared(path: Path) -> dict[str, tuple[tuple[int, ...] | None, int, int]]:
    """{name: (shape, bytes, bytes as stored)} of the arrays of a .npz, or of "" in a .npy, by what
    their headers say; a shape is None where there is no header."""
    found = {}
    try:
        with open_regular(path) as file:
            if file.read(2) != b"PK":
                file.seek(0)
                found[""] = *_header(file), file_size(path)
                return found
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    with archive.open(member) as inside:
                        shape, size = _header(inside)
                    name = member.filename.removesuffix(".npy")
                    found[name] = shape, max(member.file_size, size), member.compress_size
    except Exception:  # missing or damaged: whoever reads it says so
        pass
    return found


def _header(file: IO[bytes]) -> tuple[tuple[int, ...] | None, int]:
    """Shape and bytes of an array by the header of its .npy file; None and 0 where it has none."""
    form = np.lib.format
    try:
        read = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}
        shape, _, dtype = read[form.read_magic(file)](file)
    except Exception:
        return None, 0
    return shape, dtype.itemsize * math.prod(int(n) for n in shape)
