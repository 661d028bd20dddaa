"""Jobs that wait in one line, are solved one after the other, and are forgotten after a while."""

from __future__ import annotations

import logging
import math
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

_LONGEST = 30.0  # seconds that are waited for others who may never come back


class Busy(Exception):
    """There is no place, but is likely to be one after some seconds."""

    def __init__(self, seconds: float):
        super().__init__(f"there is no place just now: try again in {seconds:.0f} s")
        self.seconds = seconds


class Stopped(Exception):
    """A job that was cancelled, took too long, or whose owner went away."""


@dataclass
class Product:
    """What a job leaves: numbers and words, and files by their names with their media types."""

    told: dict[str, Any] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(len(data) for _, data in self.files.values())


Work = Callable[[Report], Product]


@dataclass
class Job:
    """One wish of a visitor.

    Attributes:
        work: what is to be done; None once it has begun, for it holds a picture.
        id: by which only its owner knows it.
        state: "waiting", "running", "done", "failed" or "cancelled".
        asked: when its owner asked after it last.
    """

    work: Work | None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: str = "waiting"
    error: str = ""
    product: Product = field(default_factory=Product)
    progress: Progress = field(default_factory=lambda: Progress("solving", quiet=True))
    since: float = field(default_factory=time.monotonic)
    asked: float = field(default_factory=time.monotonic)
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
        self._running: Job | None = None
        self._turned_away, self._usual = 0, 0.0  # visitors, and the seconds of a job
        self._changed = threading.Condition()  # with a lock that may be taken twice
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="innverse jobs", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> Job:
        """Let a job wait.

        Raises:
            Busy: so many wait already.
        """
        with self._changed:
            self.check_place()
            job = Job(work)
            self._jobs[job.id] = job
            self._line.append(job)
            self._changed.notify()
        return job

    def check_place(self) -> None:
        """
        Raises:
            Busy: the line is full.
        """
        with self._changed:
            self._forget()
            if len(self._line) >= self.limits.waiting or self._closed:
                self._turned_away += 1
                raise Busy(self.wait_for_place())

    def wait_for_place(self) -> int:
        """Seconds until there is likely to be one: what is left of the job that runs, and the usual
        time for each who was turned away before, so that they do not all come back together."""
        with self._changed:
            left = self._running.progress.left if self._running else 0.0
            others = min(_LONGEST, self._usual * max(0, self._turned_away - 1))
            wait = (10 if left is None else left) + others
        return max(1, math.ceil(min(wait, self.limits.seconds)))

    def get(self, id: str) -> Job | None:
        with self._changed:
            self._forget()
            job = self._jobs.get(id)
            if job is not None:
                job.asked = time.monotonic()
            return job

    def before(self, job: Job) -> int:
        """How many are solved first."""
        with self._changed:
            return self._line.index(job) + 1 if job in self._line else 0

    def cancel(self, job: Job) -> None:
        """At once if it waits, else at its next step."""
        self._give_up(job, "cancelled")

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

    def _give_up(self, job: Job, why: str) -> None:
        with self._changed:
            job.stop = why
            if job in self._line:
                self._line.remove(job)
                self._end(job, "cancelled", why)

    def _look_after(self, job: Job) -> None:
        """Give it up if its owner has gone away."""
        if job.asked < time.monotonic() - self.limits.patience:
            self._give_up(job, f"given up: nobody asked for {self.limits.patience:.0f} seconds")

    def _end(self, job: Job, state: str, error: str) -> None:
        job.state, job.error, job.since, job.work = state, error, time.monotonic(), None

    def _forget(self) -> None:
        """Jobs that nobody waits for, and results that are old or more than are kept: with the lock."""
        for job in [*self._line]:
            self._look_after(job)
        now = time.monotonic()
        over = sorted((job for job in self._jobs.values() if job.over), key=lambda job: -job.since)
        size = 0
        for k, job in enumerate(over):
            size += job.product.size
            old = job.since < now - self.limits.keep
            if old or k >= self.limits.finished or size > self.limits.memory:
                del self._jobs[job.id]

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._forget()
                while not self._line and not self._closed:
                    # wakes up now and then, so that results go without a visitor, too
                    self._changed.wait(timeout=min(60.0, self.limits.keep))
                    self._forget()
                if self._closed:
                    return
                self._running = job = self._line.popleft()
                self._turned_away = max(0, self._turned_away - 1) if self._line else 0
                job.state = "running"
                job.progress = Progress("solving", quiet=True)  # its clock starts here
                work, job.work = job.work, None
            assert work is not None
            self._run(job, work)
            del job, work  # and the picture that it holds

    def _run(self, job: Job, work: Work) -> None:
        begins = time.monotonic()
        ends = begins + self.limits.seconds

        def report(done: float, total: float, note: str = "") -> None:
            job.progress(done, total, note)
            self._look_after(job)
            if job.stop:
                raise Stopped(job.stop)
            if time.monotonic() > ends:
                raise Stopped(
                    f"stopped after {self.limits.seconds:.0f} seconds, the most that a job may take"
                )

        state, error, product = "done", "", Product()
        try:
            product = work(report)
        except Stopped as why:
            state, error = ("cancelled" if job.stop else "failed"), str(why)
        except InnverseError as why:
            state, error = "failed", " ".join(str(why).split())
        except BaseException as why:  # the line goes on, whatever became of one job
            if is_out_of_memory(why):
                state, error = "failed", "that does not fit in memory: take a smaller picture"
            else:
                _log.exception("a job failed")
                state, error = (
                    "failed",
                    f"an error of the program ({type(why).__name__}); see its log",
                )
        with self._changed:
            self._running, job.product = None, product
            self._end(job, state, error)
            took = job.since - begins
            self._usual = 0.7 * self._usual + 0.3 * took if self._usual else took
