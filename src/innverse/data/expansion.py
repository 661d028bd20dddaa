"""How much a compressed file may become: a few kilobytes can declare what fills any memory."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError

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


def _size(n: int) -> str:
    return f"{n / 2**30:.3g} GB" if n >= 1 << 28 else f"{max(n, 1024) / 2**10:.4g} kB"


def file_size(path: Path) -> int:
    """In bytes; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
