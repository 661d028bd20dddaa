"""What runs in a worker: one chunk at a time, with its own random numbers and so many threads."""

from __future__ import annotations

import pickle
import threading
import time
from collections import OrderedDict
from typing import Any

from ..errors import InnverseError, first_line
from ..seeding import seeded
from .chunks import Do, seed_of
from .current import using
from .packing import pack
from .versions import difference, versions

_ONE = threading.Lock()  # a worker may have several threads, but torch has one random state
_EVERY = 1.0  # seconds between reports
KEPT = 4  # things that all chunks of a run share
_UNPACKED: OrderedDict[str, Any] = OrderedDict()


class ChunkError(Exception):
    """What went wrong in a chunk, in a line."""


def carried(pickled: bytes) -> bytes:
    """What all chunks share, as a result of its own, which workers hand to each other."""
    return pickled


def _unpacked(key: str, pickled: bytes) -> Any:
    """It, unpacked once; the same for every worker, whatever others have done with theirs."""
    if key not in _UNPACKED:
        _UNPACKED[key] = pickle.loads(pickled)
        while len(_UNPACKED) > KEPT:
            _UNPACKED.popitem(last=False)
    return _UNPACKED[key]


def work(
    do: Do,
    key: str,
    pickled: bytes,
    payload: bytes,
    k: int,
    topic: str,
    threads: int,
    wanted: dict[str, str],
) -> bytes | tuple[int, list[str]]:
    """The packed result of a chunk; or the exit code and the text, in the parts that `OptionError` has,
    of an error that would come again."""
    differs = difference(versions(), wanted)
    if differs:
        raise ChunkError(f"a worker has {differs}")
    try:
        with _ONE, using(None), seeded(seed_of(k), threads=threads):
            return pack(do(_unpacked(key, pickled), pickle.loads(payload), _reporter(topic, k)))
    except InnverseError as error:
        return error.exit_code, [*getattr(error, "parts", [str(error)])]
    except Exception as error:
        raise ChunkError(f"{type(error).__name__}: {first_line(error)}") from None


def _reporter(topic: str, k: int):
    """Tells the client how far the chunk is, once a second at most."""
    from distributed import get_worker

    worker, said = get_worker(), time.monotonic()

    def report(done: float, total: float, note: str = "") -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= _EVERY:
            said = now
            worker.log_event(topic, [k, done / total if total else 0.0])

    return report
