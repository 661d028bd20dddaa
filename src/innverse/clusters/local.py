"""Workers on this machine, which only this machine can reach."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import sys
from typing import Any

from ..errors import UsageError

LOOPBACK = "127.0.0.1"
_SHARE = 0.9  # of the memory of the machine


def start(count: int, memory: str | int | None) -> Any:
    """A Dask cluster of ``count`` processes of one thread each.

    They are processes of their own, not copies of this one, so that a script needs no
    ``if __name__ == "__main__"``; when this one ends, however it does, they end too.

    Args:
        memory: bytes a worker may have, or a text such as "4 GB"; at 95 % of it a worker is started
            anew, and its chunk is done again. By default an equal share of nine tenths.
    """
    if os.name == "nt":
        raise UsageError(
            "cluster local: needs Linux or macOS; here start `dask scheduler --host 127.0.0.1` and "
            "`dask worker tcp://127.0.0.1:8786`, and give that address"
        )
    from dask.utils import parse_bytes
    from distributed import Scheduler, SpecCluster
    from distributed.deploy.subprocess import SubprocessWorker
    from distributed.system import MEMORY_LIMIT

    try:
        limit = (
            parse_bytes(memory) if memory is not None else math.floor(_SHARE * MEMORY_LIMIT / count)
        )
    except ValueError:
        raise UsageError(f"memory={memory!r}: give bytes, or a text such as '4 GB'") from None
    nowhere = {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
    options = nowhere | {
        "host": LOOPBACK, "nthreads": 1, "memory_limit": limit, "silence_logs": logging.CRITICAL,
        "death_timeout": 30,
    }  # fmt: skip

    class Worker(SubprocessWorker):
        """In a session of its own: Ctrl-C is for this process, which ends its workers."""

        async def _start(self) -> None:
            spec = json.dumps({"cls": self.worker_class, "opts": self.worker_kwargs})
            command = [sys.executable, "-m", "dask", "spec", self.scheduler, "--spec", spec]
            quiet = {**os.environ, "DASK_LOGGING__DISTRIBUTED": "critical"}
            self.process = await asyncio.create_subprocess_exec(
                *command, env=quiet, start_new_session=True
            )

    worker = {"cls": Worker, "options": {"worker_kwargs": options}}
    return SpecCluster(
        workers=dict.fromkeys(range(count), worker),
        scheduler={"cls": Scheduler, "options": nowhere | {"host": LOOPBACK, "port": 0}},
        worker=worker,
        name="innverse",
        silence_logs=logging.CRITICAL,
    )
