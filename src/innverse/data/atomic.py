"""Writing files so that a crash, a full disk or a second reader never sees half a file.

Everything goes to a temporary file beside the target, which is then renamed over it. A rename
within one folder is atomic, so the target is at every moment either the old file or the new one.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InnverseError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file is larger than the system allows here; choose another folder",
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EPERM: "no permission to write there; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EISDIR: "it is a folder; give a file name",
    errno.ENOTDIR: "a part of its path is a file, not a folder; choose another folder",
    errno.EEXIST: "a part of its path is a file, not a folder; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def write_error(path: str | os.PathLike, error: BaseException) -> InnverseError:
    """The one-line error for a failed write to ``path``."""
    number = getattr(error, "errno", None)
    reason = _ADVICE.get(number) or getattr(error, "strerror", None) or str(error)
    if "No space left" in str(error):  # how libraries written in Rust report ENOSPC
        reason = _ADVICE[errno.ENOSPC]
    name = os.fspath(path)
    return InnverseError(f"cannot write {repr(name) if chr(0) in name else name}: {reason}")


def check_name(path: str | os.PathLike) -> None:
    """Refuse what no file can be called; how Python words that changes with its versions."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        raise InnverseError(
            f"cannot write {os.fspath(path)!r}: the file system has no such letters"
        ) from None
    if b"\0" in name:
        raise InnverseError(f"cannot write {os.fspath(path)!r}: a NUL in a file name")


@contextmanager
def atomic_path(path: str | os.PathLike) -> Generator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block succeeds.

    For writers that want a path; write to exactly the yielded one. Missing folders are made. If the
    block fails, the temporary file is removed and an existing ``path`` stays as it was.

    Raises:
        InnverseError: no permission, disk full, a name that cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = tempfile.mkdtemp()
        >>> with atomic_path(folder + "/x.txt") as temporary:
        ...     _ = temporary.write_text("all of it, or nothing")
        >>> Path(folder, "x.txt").read_text()
        'all of it, or nothing'
    """
    check_name(path)
    temporary = None
    try:
        target = Path(os.path.realpath(path))  # write through a symbolic link, do not replace it
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        if target.exists() and not target.is_file():
            yield target  # a device or a pipe: renaming over it would destroy it
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise write_error(path, error) from error
    except Exception as error:
        if "No space left" in str(error):
            raise write_error(path, error) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def atomic_write(
    path: str | os.PathLike, content: bytes | str | Callable[[BinaryIO], object]
) -> Path:
    """Write ``content`` to ``path`` atomically and return the path.

    ``content`` is bytes, text (written as UTF-8) or a function that writes to the open binary file
    it is given. Missing folders are made.

    Raises:
        InnverseError: no permission, disk full, a name that cannot be written. The old file, if
            there was one, is untouched, and no temporary file is left.

    Example:
        >>> import tempfile
        >>> atomic_write(tempfile.mkdtemp() + "/x.txt", "all of it, or nothing").name
        'x.txt'
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(_encoded(content))
    return Path(path)


def _encoded(content: bytes | str) -> bytes:
    # names of files that are not UTF-8 get a "?" for every odd byte
    return content.encode(errors="replace") if isinstance(content, str) else content


def write_together(folder: str | os.PathLike, contents: dict[str, bytes | str]) -> None:
    """Write several files of one folder, by name: all of them, or none where the disk is full.

    Only when the last byte is on the disk do they take the place of older ones, in the order given.

    Raises:
        InnverseError: as `atomic_write`; the old files are untouched.
    """
    with ExitStack() as stack:
        # the stack unwinds from the end: the first name is renamed first
        for name in reversed(contents):
            temporary = stack.enter_context(atomic_path(Path(folder, name)))
            with open(temporary, "wb") as file:
                file.write(_encoded(contents[name]))
                file.flush()
                os.fsync(file.fileno())


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Write ``value`` as indented JSON, atomically, see `dumps`.

    Example:
        >>> import tempfile
        >>> file = write_json(tempfile.mkdtemp() + "/x.json", {"loss": float("nan")})
        >>> "null" in file.read_text()
        True
    """
    return atomic_write(path, dumps(value, indent=2) + "\n")


def dumps(value: Any, indent: int | None = None) -> str:
    """``value`` as strict JSON. NaN and infinities become ``null``.

    Numpy and torch scalars and arrays are written as numbers and lists, paths as text. File names
    that are not UTF-8 keep their odd bytes as escapes (``\\udcff``, for `os.fsencode`).
    """
    text = json.dumps(jsonable(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def jsonable(value: Any) -> Any:
    """``value`` with everything that JSON does not know turned into what it does know."""
    if hasattr(value, "tolist"):  # numpy and torch
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
