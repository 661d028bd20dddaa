"""Jobs that wait in one line, are solved one after the other, and are forgotten after a while."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import InnverseError, is_out_of_memory
from ..progress import Progress, Report
from .limits import Limits

_log = logging.getLogger(__name__)


class Busy(Exception):
    """The line is full."""


class Stopped(Exception):
    """A job that was cancelled, or took too long."""


@dataclass
class Product:
    """What a job leaves: numbers and words, and files by their names with their media types."""

    told: dict[str, Any] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)


Work = Callable[[Report], Product]


@dataclass
class Job:
    """One wish of a visitor.

    Attributes:
        id: by which only its owner knows it.
        state: "waiting", "running", "done", "failed" or "cancelled".
    """

    work: Work
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: str = "waiting"
    error: str = ""
    product: Product = field(default_factory=Product)
    progress: Progress = field(default_factory=lambda: Progress("solving", quiet=True))
    since: float = field(default_factory=time.monotonic)
    stop: str = ""

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class Jobs:
    """A line of jobs and the thread that works on them: torch uses all cores for each.

    Example:
        >>> with_none = Jobs(Limits(waiting=1))
        >>> job = with_none.submit(lambda report: Product({"answer": 42}))
        >>> while not job.over:
        ...     time.sleep(0.01)
        >>> job.product.told
        {'answer': 42}
        >>> with_none.close()
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self._jobs: dict[str, Job] = {}
        self._line: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="innverse jobs", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> Job:
        """Let a job wait.

        Raises:
            Busy: so many wait already.
        """
        with self._changed:
            self._forget()
            if len(self._line) >= self.limits.waiting:
                raise Busy
            job = Job(work)
            self._jobs[job.id] = job
            self._line.append(job)
            self._changed.notify()
        return job

    def get(self, id: str) -> Job | None:
        with self._changed:
            self._forget()
            return self._jobs.get(id)

    def before(self, job: Job) -> int:
        """How many are solved first."""
        with self._changed:
            return self._line.index(job) + 1 if job in self._line else 0

    def cancel(self, job: Job) -> None:
        """At once if it waits, else at its next step."""
        with self._changed:
            job.stop = "cancelled"
            if job in self._line:
                self._line.remove(job)
                job.state, job.error = "cancelled", "cancelled"

    def close(self) -> None:
        """Stop after the next step of what is being solved."""
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                job.stop = "the server is shutting down"
            self._changed.notify()
        self._thread.join(timeout=10)

    def __iter__(self) -> Iterator[Job]:
        with self._changed:
            return iter([*self._jobs.values()])

    def _forget(self) -> None:
        """Finished jobs that are old, or more than are kept: with the lock."""
        over = [job for job in self._jobs.values() if job.over]
        old = time.monotonic() - self.limits.keep
        surplus = len(over) - self.limits.finished
        for k, job in enumerate(over):
            if job.since < old or k < surplus:
                del self._jobs[job.id]

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._line and not self._closed:
                    # wakes up now and then, so that results go without a visitor, too
                    self._changed.wait(timeout=min(60.0, self.limits.keep))
                    self._forget()
                if self._closed:
                    return
                job = self._line.popleft()
                job.state, job.since = "running", time.monotonic()
            self._run(job)

    def _run(self, job: Job) -> None:
        ends = time.monotonic() + self.limits.seconds

        def report(done: float, total: float, note: str = "") -> None:
            job.progress(done, total, note)
            if job.stop:
                raise Stopped(job.stop)
            if time.monotonic() > ends:
                raise Stopped(
                    f"stopped after {self.limits.seconds:.0f} seconds, the most that a job may take"
                )

        state, error = "done", ""
        try:
            job.product = job.work(report)
        except Stopped as why:
            state, error = ("cancelled" if job.stop else "failed"), str(why)
        except InnverseError as why:
            state, error = "failed", " ".join(str(why).split())
        except Exception as why:  # the line goes on, whatever became of one job
            if is_out_of_memory(why):
                state, error = "failed", "that does not fit in memory: take a smaller picture"
            else:
                _log.exception("a job failed")
                state, error = (
                    "failed",
                    f"an error of the program ({type(why).__name__}); see its log",
                )
        with self._changed:
            job.state, job.error, job.since = state, error, time.monotonic()
