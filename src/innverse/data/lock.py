"""One writer at a time for a folder that runs write into."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InnverseError, InputError
from .atomic import write_error

NAME = ".lock"


@contextmanager
def only_writer(folder: Path) -> Generator[None]:
    """Hold ``folder`` (made if need be) against other processes that ask for it too.

    The kernel gives the lock back when its process ends, however it ends; the empty file that a
    killed one leaves means nothing. Where the system knows no such locks nobody is kept out.

    Raises:
        InnverseError: another process holds it. InputError: the folder cannot be written.
    """
    file = folder / NAME
    try:
        made = not os.path.lexists(folder)
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    except (OSError, ValueError) as error:
        reason = str(write_error(folder, error)).removeprefix("cannot write ")
        raise InputError(f"cannot write to {reason}") from None
    try:
        if not _locked(descriptor) or not _same(descriptor, file):
            raise InnverseError(
                f"another run is writing into {folder}: wait for its end, or choose another --out"
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.unlink()
                if made:
                    folder.rmdir()  # where nothing came of the run
    finally:
        os.close(descriptor)


def _same(descriptor: int, file: Path) -> bool:
    """Whether the lock is still that of the folder: its holder may just have removed the file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except OSError:
        return False


def _locked(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
