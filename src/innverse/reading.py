"""Reading files that anybody may have written: only regular ones, only so large, only strict text.

A named pipe, a terminal or /dev/zero never ends, so nothing but a regular file is opened, and what
is a description (JSON, TOML) is refused beyond a size that no description has.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, BinaryIO

from .errors import InputError, UsageError

_DESCRIPTION = 64 << 20  # bytes: far more than any description of a model or a training has
_REASONS = {
    errno.ENOENT: "No such file or directory; check the path",
    errno.ELOOP: "its symbolic links go round in a circle",
    errno.EISDIR: "it is a folder; give a file",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EACCES: "no permission to read it; change its permissions",
    errno.EPERM: "no permission to read it; change its permissions",
}


def open_regular(path: str | os.PathLike, what: str = "") -> BinaryIO:
    """The open binary file, if it is one that ends; ``what`` names its purpose in errors.

    Raises:
        InputError: missing, not readable, a folder, a pipe, a socket or a device.
    """
    try:
        # without O_NONBLOCK the mere opening of a pipe would wait for somebody to write into it
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags | getattr(os, "O_NOCTTY", 0))
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENXIO:  # a socket
            raise InputError(f"cannot read {what}{_name(path)}: not a regular file") from None
        raise read_error(path, error, what) from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        why = _REASONS[errno.EISDIR] if stat.S_ISDIR(mode) else "not a regular file"
        raise InputError(f"cannot read {what}{_name(path)}: {why}")
    return os.fdopen(descriptor, "rb")


def read_error(path: str | os.PathLike, error: BaseException, what: str = "") -> InputError:
    """The one-line error for a failed reading of ``path``."""
    number = getattr(error, "errno", None)
    reason = _REASONS.get(number) or getattr(error, "strerror", None) or str(error)
    return InputError(f"cannot read {what}{_name(path)}: {reason or 'it does not fit in memory'}")


def read_bytes(path: str | os.PathLike, limit: int | None = None, what: str = "") -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        InputError: it cannot be read, or is larger.
    """
    with open_regular(path, what) as file:
        try:
            if limit is not None and os.fstat(file.fileno()).st_size > limit:
                raise InputError(
                    f"{_name(path)} has more than {limit >> 20} MB: it is no such file"
                )
            return file.read()
        except (OSError, MemoryError) as error:
            raise read_error(path, error, what) from None


def read_json(path: str | os.PathLike, advice: str = "write it again") -> Any:
    """What a JSON file holds, see `parse_json`.

    Raises:
        InputError: it cannot be read or is no JSON; ``advice`` ends the line.
    """
    data = read_bytes(path, _DESCRIPTION)
    try:
        return parse_json(data)
    except ValueError as error:
        raise InputError(f"{_name(path)} is not valid JSON ({error}): {advice}") from None


def parse_json(text: bytes | str) -> Any:
    """The value of strict JSON: finite numbers, every key once, no bottomless nesting.

    Raises:
        ValueError: it is not; one line.
    """
    with _told_in_one_line():
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite
        )


def read_toml(path: str | os.PathLike) -> dict[str, Any]:
    """What the TOML file of some settings holds.

    Raises:
        InputError: it cannot be read. UsageError: it is no TOML.
    """
    data = read_bytes(path, _DESCRIPTION, "the config ")
    try:
        return parse_toml(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a text file; a TOML config is needed") from None
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of TOML text.

    Raises:
        ValueError: it is no TOML, in one line.
    """
    with _told_in_one_line():
        return tomllib.loads(text)


@contextlib.contextmanager
def _told_in_one_line():
    """What a parser raises, as a ValueError."""
    try:
        yield
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        if "digits" in str(error):  # Python's own limit, and how to lift it
            raise ValueError("a number has thousands of digits") from None
        raise ValueError(" ".join(str(error).split())[:200]) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:40]!r} stands there twice")
    return found


def _refuse(name: str):
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _name(path: str | os.PathLike) -> str:
    name = os.fspath(path)
    return repr(name) if "\0" in name else str(Path(name))
