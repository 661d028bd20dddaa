"""Whether the draws will fit in memory, asked before anything is computed."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from ...errors import InputError

_AT_WORK = 64  # images of each chain that an evaluation holds at once
_CGROUP = Path("/sys/fs/cgroup")


def check_memory(draws: int, pixels: int, chains: int, like: torch.Tensor) -> None:
    """Refuse ``draws`` images of ``pixels`` numbers, made by ``chains`` chains (of all items).

    Raises:
        InputError: they do not fit in what is free.
    """
    free = free_memory(like.device)
    need = like.element_size() * pixels * (draws + _AT_WORK * chains)
    if free is not None and need > free:
        raise InputError(
            f"{draws} draws of {pixels} numbers need {_size(need)} of memory, {_size(free)} are free: "
            "lower draws (more thin keeps fewer of as long a run), or take fewer pictures at once"
        )


def free_memory(device: torch.device) -> int | None:
    """Bytes that can be allocated; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = []
    with contextlib.suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(1024 * int(line.split()[1]))
    with contextlib.suppress(OSError, ValueError):  # of a container; "max" is no limit
        limit = int((_CGROUP / "memory.max").read_text())
        found.append(limit - int((_CGROUP / "memory.current").read_text()))
    return min(found) if found else None


def _size(number: float) -> str:
    return f"{number / 2**30:.3g} GiB" if number >= 2**28 else f"{number / 2**20:.3g} MiB"
