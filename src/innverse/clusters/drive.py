"""Chunks handed to the workers of a cluster, a few ahead of them, until each has an answer."""

from __future__ import annotations

import contextlib
import queue
import time
import uuid
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..errors import InnverseError, InputError, NotConvergedError, UsageError, first_line
from ..options import OptionError
from .chunks import Do, Failure, Task
from .records import digest
from .versions import difference, versions
from .worker import KEPT, carried, work

_TICK = 1.0  # seconds between looks at the workers
_KINDS: dict[int, type[InnverseError]] = {2: UsageError, 3: NotConvergedError, 4: InputError}


class Cluster:
    """A scheduler with its workers, as `innverse.cluster` gives it.

    Args:
        connect: makes a Dask client; again where the scheduler has gone.
        name: of the cluster, for messages.
        threads: of torch, within a chunk.
        retries: how often a chunk is done again after an error.
        wait: seconds to wait for a scheduler or a worker that is not there.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        name: str,
        *,
        threads: int = 1,
        retries: int = 2,
        wait: float = 60.0,
    ):
        self._connect, self.name = connect, name
        self.threads, self.retries, self.wait = threads, retries, wait
        self._client: Any = None
        self._shared: OrderedDict[str, Any] = OrderedDict()

    @property
    def workers(self) -> int:
        """How many there are now."""
        return len(self._client.nthreads())

    def open(self) -> None:
        """Connect, wait for a worker, and compare versions.

        Raises:
            InnverseError: nobody is there, or a worker has other versions than this process.
        """
        from distributed import TimeoutError as NoAnswer

        self.close()
        until = time.monotonic() + self.wait
        while self._client is None:
            try:
                self._client = self._connect()
            except (OSError, NoAnswer) as error:
                if time.monotonic() > until:
                    raise InnverseError(
                        f"no scheduler answers at {self.name} ({first_line(error)}): is it running, "
                        "and is its port open?"
                    ) from None
                time.sleep(_TICK)
        try:
            self._client.wait_for_workers(1, timeout=max(_TICK, until - time.monotonic()))
        except NoAnswer:
            raise self._alone() from None
        self._compare()

    def close(self) -> None:
        self._shared.clear()
        if self._client is not None:
            with contextlib.suppress(Exception):  # its scheduler may have gone
                self._client.close(timeout=2)
        self._client = None

    def _alone(self) -> InnverseError:
        return InnverseError(
            f"the cluster {self.name} has no workers: start some, `dask worker {self.name}`"
        )

    def _compare(self) -> None:
        ours = versions()
        try:
            theirs = self._client.run(versions)
        except Exception as error:
            raise InnverseError(
                f"the workers of {self.name} cannot run innverse ({first_line(error)}): install "
                f"{', '.join(f'{k} {v}' for k, v in ours.items())} there"
            ) from None
        found = {where: difference(found, ours) for where, found in theirs.items()}
        differing = [(where, words) for where, words in found.items() if words]
        if differing:
            where, words = differing[0]
            raise InnverseError(
                f"{len(differing)} of {len(found)} workers have other versions, {where}: {words}; "
                "install the same everywhere"
            )

    def answers(
        self,
        do: Do,
        todo: Iterator[Task],
        shared: Any,
        report: Callable[[int, float, str], None],
    ) -> Iterator[tuple[Task, bytes | Failure]]:
        """The answer to each task, as they come.

        Raises:
            InnverseError: the scheduler or all workers have gone and nobody came back in time.
        """
        from distributed import KilledWorker

        events: queue.SimpleQueue = queue.SimpleQueue()
        running: dict[Any, Task] = {}  # future: what it is to answer
        again: deque[Task] = deque()
        suspects: deque[Task] = deque()  # of which one may kill workers: each is tried alone
        topic = f"innverse-{uuid.uuid4().hex}"
        pickled, ours = _pickled(shared), versions()
        shared_key = digest(pickled)
        last_chance: Task | None = None
        ended, there, looked, seen = False, self.workers, time.monotonic(), time.monotonic()

        def listen() -> None:
            self._client.subscribe_topic(topic, lambda event: events.put(event[1]))

        def submit(task: Task) -> None:
            future = self._client.submit(
                work, do, shared_key, self._share(shared_key, pickled), _pickled(task.payload),
                task.k, topic, self.threads, ours,
                key=f"{task.name}-{uuid.uuid4().hex}", retries=self.retries,
            )  # fmt: skip
            running[future] = task
            self._client.loop.add_callback(_fetch, self._client, future, events)

        listen()
        try:
            while True:
                while len(running) < 2 * there + 2:
                    task = again.popleft() if again else next(todo, None)
                    if task is None:
                        ended = True
                        break
                    if task.answer is not None:
                        yield task, task.answer
                    else:
                        submit(task)
                if ended and not running and not again:
                    if not suspects:
                        return
                    self._shared.clear()  # which may be among what was lost
                    last_chance = suspects.popleft()
                    submit(last_chance)
                try:
                    event = events.get(timeout=_TICK)
                except queue.Empty:
                    event = None
                if isinstance(event, _Answer):
                    if event.future in running and event.found is not None:
                        task = running.pop(event.future)
                        if isinstance(event.found, KilledWorker) and task is not last_chance:
                            suspects.append(task)
                        else:
                            yield task, self._judged(task, event.found)
                        seen = time.monotonic()
                elif event is not None:
                    report(*event, _words(there))
                if time.monotonic() - looked > _TICK:
                    with contextlib.suppress(Exception):
                        there = self.workers
                    looked = time.monotonic()
                    report(-1, 0.0, _words(there))
                    seen = looked if there else seen
                if self._client.status != "running" or any(f.cancelled() for f in running):
                    again.extend(running.values())
                    running.clear()
                    self.open()
                    listen()
                    there, seen = self.workers, time.monotonic()
                elif looked - seen > self.wait:
                    raise self._alone()
        finally:
            with contextlib.suppress(Exception):
                self._client.cancel(list(running), force=True)

    def _share(self, key: str, pickled: bytes) -> Any:
        """What all chunks need, as a task that one worker does and others copy, and that is done again
        where those who had it died."""
        if key not in self._shared:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph")
                self._shared[key] = self._client.submit(carried, pickled, key=f"shared-{key}")
            while len(self._shared) > KEPT:
                self._shared.popitem(last=False)
        return self._shared[key]

    def _judged(
        self, task: Task, found: bytes | tuple[int, list[str]] | Exception
    ) -> bytes | Failure:
        """What came of a task: a result, an error of ours, or one that remained after all tries."""
        from distributed import KilledWorker

        if isinstance(found, tuple):
            code, parts = found
            kind = OptionError if len(parts) > 1 else _KINDS.get(code, InnverseError)
            return Failure(task.name, kind(*parts))
        if not isinstance(found, Exception):
            return found
        words = f"{first_line(found) or type(found).__name__} (tried {self.retries + 1} times)"
        if isinstance(found, KilledWorker):
            words = (
                "the workers that did it died, one after the other; for want of memory? Give them "
                "more, or smaller pictures"
            )
        return Failure(task.name, InnverseError(f"{task.name}: {words}"))


class _Answer(NamedTuple):
    """What a task gave or raised; None of one that was lost with its scheduler."""

    future: Any
    found: Any


async def _fetch(client: Any, future: Any, events: queue.SimpleQueue) -> None:
    found = None
    try:
        (found,) = await client.gather([future], asynchronous=True)
    except Exception as error:
        found = error if future.status == "error" else None
    finally:
        events.put(_Answer(future, found))


def _pickled(value: Any) -> bytes:
    """As bytes, since Dask would look into it, and take named tuples for tuples."""
    from distributed.protocol.pickle import dumps

    return dumps(value)


def _words(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers or 'no'} workers"
