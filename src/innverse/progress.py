"""How a computation tells the person who waits for it: a bar on a terminal, lines elsewhere.

The one mechanism of all verbs and of all functions with ``progress=``. It loads neither torch nor,
away from a terminal, rich.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["Progress", "Report", "clock_time", "part"]

Report = Callable[[float, float, str], None]  # report(done, total, note)

EVERY = 15.0  # seconds between lines
_BAR = 20  # letters


class Progress:
    """What is done, how far, and how long it will take, on stderr.

    On a terminal a bar with a percentage and the time left. Elsewhere a line every 15 seconds, also
    in the middle of a long step (a thread of its own sees to that), and none at all of what is
    finished before the first is due. Call it as ``progress(done, total, note)``, which is what
    `innverse.solve` and others take as ``progress=``; what is done never goes back.

    Args:
        title: what is done, in a word or two.
        total, start: the units of the whole, and those done before, which took no time.
        unit: what ``total`` counts, to say how many; without it only the percentage is shown.
        quiet: say nothing.
        every: seconds between lines.
        clock: seconds, from any origin.
        stream: where to, by default stderr.

    Example:
        >>> with Progress("counting", 3) as progress:
        ...     for k in range(3):
        ...         progress(k + 1, 3, f"number {k}")
    """

    def __init__(
        self,
        title: str,
        total: float = 1,
        *,
        start: float = 0,
        unit: str = "",
        quiet: bool = False,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
        stream: TextIO | None = None,
    ):
        self.title, self.total, self.unit, self.quiet = title, total, unit, quiet
        self.done, self.note = start, ""
        self._free = self.fraction  # share of the whole that took no time
        # when the first of the work was done, and its share
        self._warm: tuple[float, float] | None = None
        self._stream, self._every, self._clock = stream, every, clock
        self._started = self._spoke = clock()
        self._lock, self._over = threading.RLock(), threading.Event()
        self._bar = self._beat = None

    @property
    def fraction(self) -> float:
        """How much of the whole is done, 0 to 1."""
        return min(self.done / self.total, 1.0) if self.total else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to go at the pace so far; None before anything is done."""
        if self._warm is None:
            return None
        now, (since, warm) = self._clock(), self._warm
        made, spent = self.fraction - self._free - warm, now - since
        if made <= 0:  # nothing yet after what includes the preparations
            made, spent = warm, now - self._started
        return spent / made * (1 - self.fraction)

    def __enter__(self) -> Progress:
        if self.quiet:
            return self
        if _is_terminal(self.stream):
            self._bar = _bar(self)
            self._bar.start()
        else:
            self._beat = threading.Thread(target=self._keep_beating, daemon=True)
            self._beat.start()
        return self

    def __exit__(self, *exc) -> None:
        self._over.set()
        if self._bar is not None:
            self._bar.stop()
        if self._beat is not None:
            self._beat.join()

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None:
        """``done`` of ``total`` (by default that of the whole) are done; the next is ``note``."""
        total = total or self.total
        if total != self.total:
            self.done, self.total = self.fraction * total, total
        self.done, self.note = max(self.done, done), note
        if self._warm is None and self.fraction > self._free:
            self._warm = self._clock(), self.fraction - self._free
        self.beat()

    def skip(self, done: float) -> None:
        """So much is done and has cost nothing: found finished, so that it tells no pace."""
        before = self.fraction
        self.done = max(self.done, done)
        self._free += self.fraction - before

    def part(self, first: float, last: float, words: str = "") -> Report:
        """A ``report(done, total, note)`` for what leads from ``first`` to ``last`` of the whole."""

        return part(self, first, last, words)

    def say(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self.quiet:
            return
        with self._lock:
            self._spoke = self._clock()
            if self._bar is not None:
                self._bar.console.print(line, highlight=False, markup=False)
            else:  # in one piece, so that other writers come before or after it
                with contextlib.suppress(OSError, ValueError):  # stderr may be closed
                    self.stream.write(line + "\n")
                    self.stream.flush()

    def beat(self) -> None:
        """Say the line if it is due; there is none on a terminal."""
        if self.quiet or self._bar is not None:
            return
        with self._lock:
            if self._clock() - self._spoke >= self._every and not self._over.is_set():
                self.say(self.line())

    def line(self) -> str:
        """``training: 12 %, 0:03:20 left, 120 of 1000 steps, loss 0.3``."""
        since = self._clock() - self._started
        left = self.left
        time_ = f"{clock_time(since)} so far" if left is None else f"{clock_time(left)} left"
        parts = [self.percent, time_, self.count, self.note]
        return f"{self.title}: {', '.join(filter(None, parts))}"

    @property
    def percent(self) -> str:
        """``12 %``; of the first ten also tenths."""
        share = 100 * self.fraction
        return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.1f} %"

    @property
    def count(self) -> str:
        """``120 of 1000 steps``, where there is a unit."""
        return f"{math.floor(self.done)} of {self.total:g} {self.unit}s" if self.unit else ""

    @property
    def stream(self) -> TextIO:
        return self._stream or sys.stderr

    def _keep_beating(self) -> None:
        while not self._over.wait(max(0.05, self._every - (self._clock() - self._spoke))):
            self.beat()


def part(
    report: Callable, first: float, last: float, words: str = "", whole: float | None = None
) -> Report:
    """What tells ``report`` of something that leads from ``first`` to ``last`` of the ``whole``."""

    def of_part(done: float, total: float, note: str = "") -> None:
        share = min(done / total, 1.0) if total else 0.0
        report(first + share * (last - first), whole, ", ".join(filter(None, (words, note))))

    return of_part


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds, ``1:02:03``."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}"


def _is_terminal(stream: TextIO) -> bool:
    with contextlib.suppress(AttributeError, ValueError):  # closed, or no file at all
        return stream.isatty()
    return False


def _bar(progress: Progress):
    """The bar of a terminal, which reads what it shows from ``progress`` several times a second."""
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def picture() -> Table:
        left = progress.left
        shown = [
            progress.title,
            progress.percent.rjust(5),
            "-:--:-- left" if left is None else f"{clock_time(left)} left",
            ", ".join(filter(None, (progress.count, progress.note))),
        ]
        bar = ProgressBar(total=1.0, completed=progress.fraction, width=_BAR)
        table = Table.grid(padding=(0, 1))
        for width in (len(shown[0]), _BAR, *map(len, shown[1:-1]), None):
            table.add_column(no_wrap=True, overflow="ellipsis", min_width=width)
        table.add_row(Text(shown[0]), bar, *map(Text, shown[1:]))
        # not to the right edge, where the ^C of a terminal would make it two lines
        table.width = min(console.width - 4, sum(map(len, shown)) + _BAR + len(shown))
        return table

    console = Console(file=progress.stream)
    return Live(console=console, transient=True, get_renderable=picture, refresh_per_second=5)
