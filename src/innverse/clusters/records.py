"""What is finished, one file for each chunk, so that an interrupted run goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import marshal
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from torch import Tensor, nn

from .. import __version__
from ..data.atomic import atomic_write
from .packing import unpack

_ENDING = ".chunk"


class Records:
    """Files of finished chunks in a folder, known by all that they depend on.

    Args:
        folder: None keeps nothing.
        work: what is the same for all chunks: the function and what it gets each time.
    """

    def __init__(self, folder: str | Path | None, *work: Any):
        self.folder = None if folder is None else Path(folder)
        self.work = "" if self.folder is None else digest(__version__, *work)

    def path(self, k: int, payload: Any) -> Path | None:
        """Where the result of a chunk is kept."""
        if self.folder is None:
            return None
        return self.folder / f"{k:06d}-{digest(self.work, k, payload)[:24]}{_ENDING}"

    def read(self, path: Path | None) -> bytes | None:
        """The result; None where there is none, or a broken one."""
        if path is None:
            return None
        try:
            data = path.read_bytes()
            unpack(data)
        except (OSError, ValueError):
            return None
        return data

    def write(self, path: Path | None, answer: bytes) -> None:
        if path is not None:
            atomic_write(path, answer)


def forget(folder: str | Path) -> None:
    """Remove the records of a run that has come to its end, and the folder if nothing else is in it."""
    folder = Path(folder)
    for file in folder.glob(f"*{_ENDING}"):
        file.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def digest(*values: Any) -> str:
    """SHA-256 of what values hold: equal ones have equal digests, in every process.

    Models are known by their class and weights, what nothing else is known of by its pickle.

    Example:
        >>> digest({"a": torch.zeros(2)}) == digest({"a": torch.zeros(2)})
        True
        >>> digest({"a": torch.zeros(2)}) == digest({"a": torch.ones(2)})
        False
    """
    found = hashlib.sha256()
    _feed(found.update, values)
    return found.hexdigest()


def _feed(take: Callable[[bytes], None], value: Any) -> None:
    def inside(kind: str, *parts: Any) -> None:
        take(f"<{kind} {len(parts)}>".encode())
        for part in parts:
            _feed(take, part)

    if value is None or isinstance(value, (bool, int, float, complex, str, Path)):
        text = repr(value).encode()
        take(b"<%d>" % len(text) + text)
    elif isinstance(value, bytes):
        take(b"<bytes %d>" % len(value) + value)
    elif isinstance(value, Tensor):
        _feed(take, value.detach().cpu().resolve_conj().numpy())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        take(f"<{value.dtype.str} {value.shape}>".encode() + value.tobytes())
    elif isinstance(value, dict):
        inside("dict", *(part for item in value.items() for part in item))
    elif isinstance(value, (list, tuple)):
        inside("list", *value)
    elif isinstance(value, nn.Module):
        plain = {k: v for k, v in vars(value).items() if isinstance(v, (int, float, str, tuple))}
        layers = [f"{name} {_name(type(m))} {m.extra_repr()}" for name, m in value.named_modules()]
        inside(_name(type(value)), layers, plain, value.state_dict())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inside(
            _name(type(value)), {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        )
    elif isinstance(value, FunctionType):  # one that was changed is another
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        held = [_name(c) if isinstance(c, FunctionType) else c for c in cells]
        inside(_name(value), marshal.dumps(value.__code__), value.__defaults__, held)
    elif isinstance(value, type):
        take(_name(value).encode())
    else:
        from distributed.protocol.pickle import dumps

        inside(_name(type(value)), dumps(value))


def _name(of: Any) -> str:
    return f"{of.__module__}.{of.__qualname__}"
