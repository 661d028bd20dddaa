"""How much a compressed file may become: a few kilobytes can declare what fills any memory."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import InputError
from ..reading import open_regular

HARMLESS = 1 << 28  # bytes that any machine has
_TIMES = 200  # more than images and tables compress; black ones do, but hardly so large ones


def check_expansion(label: str, expanded: int, stored: int) -> None:
    """Refuse ``stored`` bytes that declare to be far too many, before they are expanded.

    Raises:
        InputError: more than 256 MB, and more than 200 times of what is stored.
    """
    if expanded > max(HARMLESS, _TIMES * stored):
        raise InputError(
            f"{label} would grow from {_size(stored)} to {_size(expanded)}, which is refused lest it "
            "fill the memory: save it again in smaller parts"
        )


def check_arrays(path: Path) -> None:
    """`check_expansion` of a .npy file, or of every array in a .npz; other files pass.

    Raises:
        InputError: no regular file, or one that declares too much.
    """
    with open_regular(path) as file:
        try:
            if file.read(2) != b"PK":
                file.seek(0)
                check_expansion(str(path), _declared(file), file_size(path))
                return
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    with archive.open(member) as inside:
                        declared = max(member.file_size, _declared(inside))
                    check_expansion(f"{path}: {member.filename}", declared, member.compress_size)
        except InputError:
            raise
        except Exception:  # damaged: whoever reads it says so
            return


def _declared(file: IO[bytes]) -> int:
    """The bytes of an array by the header of its .npy file; 0 where it has none."""
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(file)
    except Exception:  # damaged: whoever reads it says so
        return 0
    total = dtype.itemsize
    for n in shape:
        total *= int(n)
    return total


def _size(n: int) -> str:
    return f"{n / 2**30:.3g} GB" if n >= 1 << 28 else f"{max(n, 1024) / 2**10:.4g} kB"


def file_size(path: Path) -> int:
    """In bytes; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
