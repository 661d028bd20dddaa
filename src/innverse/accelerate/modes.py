"""What back-propagation through a chain keeps: the one hook by which a chain is accelerated.

``chain`` is any module with ``layers``, ``memory``, ``anchor_every`` and the two methods
``walk(x, c, run)``, its layers one after another, each by ``run(step, x, c)``, and ``record``.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..torch_private import transforms_active
from .automatic import choose_memory
from .reversible import run_reversible

Net = TypeVar("Net", bound=torch.nn.Module)

MODES = ("store", "checkpoint", "reversible", "auto")


def run_chain(chain, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    """``chain.walk(x, c)`` in the memory mode of the chain."""
    if chain.memory != "store" and torch.is_grad_enabled():
        if chain.memory == "auto":
            set_memory(chain, *choose_memory(chain, x, c))
        # transforms of torch.func know no other mode than to store
        if not transforms_active() and chain.layers:
            if chain.memory == "reversible":
                return run_reversible(chain, x, c)
            if chain.memory == "checkpoint":
                return chain.walk(x, c, _checkpointed)
    return chain.walk(x, c)


def _checkpointed(step, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    # a container checkpoints its own chain: doing it here too would compute it twice
    if any(_is_chain(m) for m in step.modules()):
        return step(x, c)
    return checkpoint(step, x, c, use_reentrant=False)


def set_memory(module: Net, mode: str, anchor_every: int | None = None) -> Net:
    """Set the memory mode of every chain in ``module``; returns ``module``.

    In reversible mode the outermost chain walks back through those inside it.

    Example:
        >>> from innverse.bijections import ActNorm, Chain
        >>> set_memory(Chain(ActNorm(4)), "reversible").memory
        'reversible'
    """

    def visit(m: Any, inside: bool) -> None:
        if _is_chain(m):
            # the outermost chain walks back through the others, and chooses for them
            m.memory = "store" if inside and mode in ("reversible", "auto") else mode
            m.anchor_every = anchor_every
            inside = True
        for child in m.children():
            visit(child, inside)

    visit(module, False)
    return module


def _is_chain(module: torch.nn.Module) -> bool:
    return hasattr(module, "walk") and hasattr(module, "anchor_every")
