"""One writer at a time for a folder that runs write into."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InnverseError, InputError
from .atomic import write_error

NAME = ".lock"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold ``folder`` (made if need be) against other processes that ask for it too.

    The kernel gives the lock back when its process ends, however it ends; the empty file that
    stays means nothing. Where the system knows no such locks nobody is kept out.

    Raises:
        InnverseError: another process holds it. InputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:
        reason = str(write_error(folder, error)).removeprefix("cannot write ")
        raise InputError(f"cannot write to {reason}") from None
    try:
        if not _locked(descriptor):
            raise InnverseError(
                f"another run is writing into {folder}: wait for its end, or choose another --out"
            )
        yield
    finally:
        os.close(descriptor)


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
