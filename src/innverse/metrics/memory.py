"""The memory that a computation needs at its peak."""

from __future__ import annotations

from collections.abc import Callable

import torch


def peak_tensor_bytes(step: Callable[[], object]) -> int:
    """Largest sum of live bytes among the tensors that ``step`` allocates, on the CPU.

    Counted from the allocator's own events, so it is exact and does not depend on what the C
    library keeps. What was allocated before (parameters, optimiser state) does not count. The step
    runs twice, once to warm up.
    """
    step()
    activity = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], profile_memory=True) as profile:
        step()
    events = profile.profiler.kineto_results.events()
    memory = sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns())
    live = peak = 0
    for event in memory:
        live += event.nbytes()
        peak = max(peak, live)
    return peak
