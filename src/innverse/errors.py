"""Errors a user can cause, each with the exit code of the command line.

The message of every error is one line that says what is wrong, where, and what to do.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from types import FrameType


class InnverseError(Exception):
    """Base of all errors that innverse raises on purpose (exit code 1)."""

    exit_code = 1


class UsageError(InnverseError, ValueError):
    """A wrong argument, option or configuration key (exit code 2)."""

    exit_code = 2


class NotConvergedError(InnverseError):
    """A solver stopped before it reached its tolerance (exit code 3)."""

    exit_code = 3


class NotConvergedWarning(UserWarning):
    """An inner iteration stopped before its tolerance; its result is used as it is."""


class InputError(InnverseError, ValueError):
    """Unusable input: a broken file, a wrong shape, NaN in the data (exit code 4)."""

    exit_code = 4


class ShapeError(InputError):
    """A tensor whose shape does not fit the operator, the flow or the mask (exit code 4)."""


def unknown(kind: str, name: object, known: Iterable[str]) -> UsageError:
    """The error for a ``name`` that nothing of a ``kind`` has: it says which is nearest, and all."""
    import difflib

    names = list(known)
    near = difflib.get_close_matches(str(name), names, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"no {kind} is called {str(name)!r}: {hint}choose one of {', '.join(names)}")


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Show a warning at the line that called this package, not at one of ours or of PyTorch's."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _inside(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def _inside(frame: FrameType) -> bool:
    """Whether a frame is of this package, or of a decorator or a module call of PyTorch around it."""
    return f"{frame.f_globals.get('__name__')}.".startswith(("innverse.", "torch."))


def first_line(error: BaseException) -> str:
    """What an error says, in one line of 160 letters at most."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text if len(text) <= 160 else text[:157] + "..."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch, numpy or the system says by ``error`` that memory has run out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(words in str(error) for words in _NO_MEMORY)


_NO_MEMORY = (
    "not enough memory",  # torch on Windows, and older ones elsewhere
    "can't allocate memory",  # torch on Linux: DefaultCPUAllocator
    "Cannot allocate memory",  # errno ENOMEM
    "std::bad_alloc",
    "CUDA out of memory",
    "Storage size calculation overflowed",  # of a tensor that no machine could hold
)
