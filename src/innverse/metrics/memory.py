"""The memory that a computation needs at its peak."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator

import torch


def peak_tensor_bytes(step: Callable[[], object]) -> int:
    """Largest sum of live bytes among the tensors that ``step`` allocates, on the CPU.

    Counted from the allocator's own events, so it is exact and does not depend on what the C
    library keeps. What was allocated before (parameters, optimiser state) does not count. The step
    runs twice, once to warm up.
    """
    step()
    activity = torch.profiler.ProfilerActivity.CPU
    with (
        _silent_stderr(),
        torch.profiler.profile(activities=[activity], profile_memory=True) as profile,
    ):
        step()
    events = profile.profiler.kineto_results.events()
    memory = sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns())
    live = peak = 0
    for event in memory:
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@contextlib.contextmanager
def _silent_stderr() -> Generator[None]:
    """The profiler announces itself there from C++, whatever one sets."""
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
