"""Errors a user can cause, each with the exit code of the command line.

The message of every error is one line that says what is wrong, where, and what to do.
"""

from __future__ import annotations


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
