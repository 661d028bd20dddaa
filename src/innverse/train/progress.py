"""How a run tells the person who waits: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time

__all__ = ["Progress"]


class Progress:
    """Loss, images/s and time left, on stderr, as long as somebody reads it there.

    Args:
        total, start: steps of the whole run, and those already done.
        every: seconds between lines where stderr is not a terminal.
        quiet: say nothing.
        unit: what is counted.
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        every: float = 10.0,
        quiet: bool = False,
        unit: str = "step",
    ):
        self.total, self.start, self.every, self.quiet = total, start, every, quiet
        self.unit = unit
        self._begun = self._last = time.monotonic()
        self._bar = self._task = None

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn(self.unit + " {task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=False,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self.total, completed=self.start, note="")
        return self

    def __exit__(self, *exc) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.stop()

    def update(self, step: int, note: str) -> None:
        """Report after step number ``step`` (1-based)."""
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
                self._bar.update(self._task, completed=step, note=note)
            return
        now = time.monotonic()
        if not self.quiet and (now - self._last >= self.every or step == self.total):
            self._last = now
            left = (now - self._begun) / max(step - self.start, 1) * (self.total - step)
            _print(f"{self.unit} {step}/{self.total}  {note}  {_clock(left)} left")

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self.quiet:
            return
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.console.print(line, highlight=False, markup=False)
        else:
            _print(line)


def _print(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr may be closed
        print(line, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}"
