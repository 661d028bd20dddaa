"""memory="auto": the fastest way of back-propagation that fits."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger("innverse")

_SHARE = 0.5  # of the machine's memory that activations may take
_ANCHOR_EVERY = 256  # steps a state is rebuilt through before it is replaced by a stored one


def choose_memory(chain: Any, x: Tensor, c: Tensor | None = None) -> tuple[str, int | None]:
    """(mode, anchor_every) for batches like ``x`` (B, C, *space) on this machine.

    ``"store"`` if all activations fit into half of the memory of the machine (of the GPU, if x is
    there); else ``"checkpoint"`` if one state per layer does, since it is exact; else
    ``"reversible"``. The choice depends on sizes only, so the same run chooses the same way again.
    """
    stored, steps = _measure(chain, x[:1], None if c is None else c[:1])
    budget = _SHARE * _total_memory(x.device)
    if stored * len(x) <= budget:
        choice = "store", None
    elif steps * x.nbytes <= budget:
        choice = "checkpoint", None
    else:
        choice = "reversible", _ANCHOR_EVERY
    log.info(
        "memory: %s (storing everything would take %.2f GB, %.2f GB may be used)",
        choice[0],
        stored * len(x) * 1e-9,
        budget * 1e-9,
    )
    return choice


def _measure(chain: Any, x: Tensor, c: Tensor | None) -> tuple[int, int]:
    """Bytes that store mode keeps for the one item ``x``, and the number of layers."""
    parameters = {p.untyped_storage().data_ptr() for p in chain.parameters()}
    sizes: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        chain.walk(x.detach().requires_grad_(), c)
    layers = [m for m in chain.modules() if _is_bijection(m) and not _inner(m)]
    return sum(n for pointer, n in sizes.items() if pointer not in parameters), len(layers)


def _inner(module: nn.Module) -> bool:
    return any(_is_bijection(m) for m in module.modules() if m is not module)


def _is_bijection(module: nn.Module) -> bool:
    return hasattr(module, "pull_back")


def _total_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
