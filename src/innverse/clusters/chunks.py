"""A piece of work, and doing many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InnverseError
from ..progress import Report
from ..seeding import seeded, stream_seed
from .current import active
from .packing import pack, unpack
from .records import Records

Do = Callable[[Any, Any, Report], Any]
"""``do(shared, payload, progress) -> result``, a function that a worker can import or unpickle."""


@dataclass(frozen=True)
class Chunk:
    """A piece of work.

    Attributes:
        name: what messages call it.
        load: gives what it is to be done of, when its turn comes.
        size: its share of the whole, for progress.

    Example:
        >>> Chunk("the first", lambda: {"seed": 1}).load()
        {'seed': 1}
    """

    name: str
    load: Callable[[], Any]
    size: float = 1


@dataclass(frozen=True)
class Failure:
    """A chunk that has no result, and why.

    Example:
        >>> Failure("the first", InnverseError("the disk is full")).error.exit_code
        1
    """

    name: str
    error: InnverseError


class Task(NamedTuple):
    """A chunk whose turn has come; with the ``answer`` where an earlier run has left it."""

    k: int
    name: str
    payload: Any = None
    answer: bytes | Failure | None = None


def run(
    do: Do,
    chunks: Sequence[Chunk],
    shared: Any = None,
    *,
    records: str | Path | None = None,
    progress: Report | None = None,
) -> Iterator[tuple[int, Any]]:
    """Do every chunk, by the workers of the `active` cluster, or here and one after the other.

    Within ``do`` the global generators of random numbers begin at a seed of the chunk.

    Args:
        do: called as do(shared, payload, progress). What it returns consists of dictionaries with texts
            as keys, lists, tensors, bytes, texts, numbers and None.
        shared: what all chunks need; it travels to each worker once, and ``do`` leaves it as it is.
        records: folder for what is finished; what it has of the same work is not done again.
        progress: called as progress(done, total, note), over all chunks.

    Yields:
        (k, result) of the k-th chunk, in the order in which they finish; a `Failure` where ``do``
        raised an `InnverseError`, or on a cluster anything again and again, or its workers died.

    Example:
        >>> def square(shared, payload, progress):
        ...     return shared + payload**2
        >>> chunks = [Chunk(f"number {k}", lambda k=k: k) for k in range(3)]
        >>> dict(run(square, chunks, 10))
        {0: 10, 1: 11, 2: 14}
    """
    book = Records(records, do, shared)
    meter = _Meter(chunks, progress)
    places: dict[int, Path | None] = {}

    def todo() -> Iterator[Task]:
        for k, chunk in enumerate(chunks):
            try:
                payload = chunk.load()
            except InnverseError as error:
                yield Task(k, chunk.name, answer=Failure(chunk.name, error))
                continue
            places[k] = book.path(k, payload)
            answer = book.read(places[k])
            if answer is not None:
                meter.skip(k)
            yield Task(k, chunk.name, payload, answer)

    cluster = active()
    answers = _here if cluster is None else cluster.answers
    for task, answer in answers(do, todo(), shared, meter.report):
        if isinstance(answer, bytes):
            if task.answer is None:
                book.write(places[task.k], answer)
            answer = unpack(answer)
        places.pop(task.k, None)
        meter.done(task.k)
        yield task.k, answer


def _here(
    do: Do, todo: Iterable[Task], shared: Any, report: Callable[[int, float, str], None]
) -> Iterator[tuple[Task, bytes | Failure]]:
    for task in todo:
        answer = task.answer
        if answer is None:

            def told(done: float, total: float, note: str = "", k=task.k) -> None:
                report(k, done / total if total else 0.0, note)

            try:
                with seeded(seed_of(task.k)):
                    answer = pack(do(shared, task.payload, told))
            except InnverseError as error:
                answer = Failure(task.name, error)
        yield task, answer


def seed_of(k: int) -> int:
    """Of the global generators within the k-th chunk."""
    return stream_seed(0, k, "chunk")


class _Meter:
    """The progress of the whole, from that of the chunks."""

    def __init__(self, chunks: Sequence[Chunk], progress: Report | None):
        self.sizes = [chunk.size for chunk in chunks]
        self.total, self.finished = sum(self.sizes), 0.0
        self.running: dict[int, float] = {}
        self.progress = progress or (lambda *_: None)

    def report(self, k: int, fraction: float, note: str) -> None:
        if k >= 0:
            self.running[k] = min(fraction, 1.0) * self.sizes[k]
        self.progress(self.finished + sum(self.running.values()), self.total, note)

    def done(self, k: int) -> None:
        self.running.pop(k, None)
        self.finished += self.sizes[k]
        self.report(-1, 0.0, "")

    def skip(self, k: int) -> None:
        """Found finished: it tells no pace."""
        skip = getattr(self.progress, "skip", None)
        if skip is not None:
            self.report(-1, 0.0, "")
            skip(self.finished + sum(self.running.values()) + self.sizes[k])
