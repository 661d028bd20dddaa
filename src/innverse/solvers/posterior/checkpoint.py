"""A run that was interrupted goes on where it was, bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...data.atomic import write_error
from ...errors import InputError, UsageError
from ...fitting.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)

_EVERY = 30.0  # seconds between checkpoints


class Keeper:
    """The checkpoints of one run, in a folder of its own.

    Args:
        folder: where; None keeps nothing.
        run: what the run is, JSON-able by name: a checkpoint of another run is refused.
    """

    def __init__(self, folder: str | None, run: Mapping[str, Any]):
        self.folder = None if folder is None else Path(folder)
        self.run = dict(run)
        self._saved = time.monotonic()
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"checkpoint={folder}: is a file; give a folder for the checkpoints")
        if self.folder is not None:  # now, not after hours of work
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise write_error(self.folder, error) from None

    def load(self) -> Checkpoint | None:
        """The newest checkpoint, if there is one.

        Raises:
            InputError: it is damaged, or of another run.
        """
        found = None if self.folder is None else latest_checkpoint(self.folder)
        if found is None:
            return None
        try:
            checkpoint = load_checkpoint(found)
        except InputError as error:
            reason = str(error).split(";")[0]
            raise InputError(f"{reason}; delete {self.folder} to start over") from None
        theirs = checkpoint.state.get("run", {})
        for name, mine in self.run.items():
            if theirs.get(name) != mine:
                raise self.foreign(
                    f"{name} is {theirs.get(name)} there and {mine} here"
                    if name != "measurement"
                    else "its measurement differs"
                )
        return checkpoint

    def foreign(self, why: str) -> InputError:
        """The error of a checkpoint of another run."""
        return InputError(
            f"the checkpoint in {self.folder} is of another run ({why}): give another folder, or "
            "delete it to start over"
        )

    def save_if_due(self, make: Callable[[], tuple[int, dict[str, Tensor], dict]]) -> None:
        if self.folder is not None and time.monotonic() - self._saved >= _EVERY:
            self.save(*make())

    def save(self, k: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """What holds after ``k`` transitions."""
        if self.folder is None:
            return
        save_checkpoint(self.folder, Checkpoint(k, tensors, state | {"run": self.run}), keep=1)
        self._saved = time.monotonic()
