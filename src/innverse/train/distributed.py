"""Many processes under ``torchrun``: who am I, how do we agree.

Every process draws the noise of the *global* batch and keeps its own slice, so the result does not
depend on the number of processes (to rounding). Only rank 0 writes.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import UsageError


@dataclass(frozen=True)
class World:
    """The processes of a run; ``World()`` is a single one and makes every method a no-op."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's slice of a global batch (B, ...) -> (B / size, ...)."""
        n = batch.shape[0] // self.size
        return batch[self.rank * n : (self.rank + 1) * n]

    def mean(self, values: Tensor) -> Tensor:
        """Average over all processes; every process gets the same bits."""
        if self.size > 1:
            dist.all_reduce(values)
            values = values / self.size
        return values

    def broadcast(self, module: nn.Module) -> None:
        """Copy rank 0's parameters and buffers to everybody."""
        if self.size > 1:
            for tensor in [*module.parameters(), *module.buffers()]:
                # bool buffers travel as bytes: not every backend sends bool
                data = tensor.data.to(torch.uint8) if tensor.dtype == torch.bool else tensor.data
                dist.broadcast(data, 0)
                tensor.data.copy_(data)

    def broadcast_value(self, value):
        """Rank 0's value, for everybody (the other machines may not see rank 0's disk)."""
        if self.size > 1:
            box = [value]
            dist.broadcast_object_list(box, 0)
            value = box[0]
        return value

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module under DistributedDataParallel, or itself when there is one process."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)


@contextmanager
def distributed(device: torch.device):
    """Join the process group that torchrun describes in the environment; yields a :class:`World`.

    gloo on the CPU, nccl on CUDA. Without torchrun it yields the single-process world.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    try:
        world = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    except (KeyError, ValueError):
        raise UsageError(
            "WORLD_SIZE is set but RANK is not: start with torchrun --nproc-per-node N -m innverse"
        ) from None
    if size == int(os.environ.get("LOCAL_WORLD_SIZE", "0")):
        # one node: the host name may resolve to an address gloo cannot reach
        if "lo" in (name for _, name in socket.if_nameindex()):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if device.type == "cuda":
        torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
    backend = "nccl" if device.type == "cuda" else "gloo"
    # rank 0 evaluates alone while the others wait at the next step, hence the long timeout
    dist.init_process_group(backend, timeout=timedelta(hours=2))
    try:
        yield world
        dist.barrier()  # nobody leaves while another still talks
    finally:
        dist.destroy_process_group()
