"""A promise that parameters do not change for a while, so that what is made of them is made once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import ContextVar

import torch

_memory: ContextVar[dict | None] = ContextVar("constant_parameters", default=None)
_varying: ContextVar[bool] = ContextVar("varying_inputs", default=False)


@contextlib.contextmanager
def constant_parameters():
    """Within it no parameter of any flow changes, and none needs a gradient.

    A solver evaluates one flow hundreds of times: folded matrices, kernels with their gains and the
    embedding of a noise level are then made at the first evaluation. Of every layer only the last
    condition is remembered, and everything is forgotten at the end.
    """
    token = _memory.set({})
    try:
        yield
    finally:
        _memory.reset(token)


@contextlib.contextmanager
def varying_parameters():
    """Within it the promise does not hold: for a flow that is trained while another is searched."""
    token = _memory.set(None)
    try:
        yield
    finally:
        _memory.reset(token)


@contextlib.contextmanager
def varying_inputs():
    """Within it tensors may be the same objects as before with other values: what is made of them is
    made anew, and nothing is asked of values. What is made of the parameters alone is remembered."""
    token = _varying.set(True)
    try:
        yield
    finally:
        _varying.reset(token)


def inputs_vary() -> bool:
    """Whether this is within `varying_inputs`."""
    return _varying.get()


def promised() -> bool:
    """Whether this is within `constant_parameters`."""
    return _memory.get() is not None


def remember(owner: object, given: tuple, make: Callable, name: str = ""):
    """``make()``, or what it gave when ``owner`` asked last, for the same ``name``, with the very same
    ``given`` objects, none of which needs a gradient."""
    memory = None if torch.compiler.is_compiling() else _memory.get()
    if memory is None:
        return make()
    tensors = [g for g in given if isinstance(g, torch.Tensor)]
    learning = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if learning or (tensors and _varying.get()):  # what is kept has no gradient
        with torch.set_grad_enabled(learning):
            return make()
    key = id(owner), name
    found = memory.get(key)
    if found is None or not _alike(found[1], given):
        with torch.inference_mode(False), torch.no_grad():
            # owner and given are stored too, so that their ids stay theirs
            found = memory[key] = (owner, given, make())
    return found[2]


def kept_with_promise(owner: object, name: object, make: Callable):
    """``make()`` of the first call for this ``owner`` and ``name`` since the promise was given; it is
    forgotten with it. Without a promise None."""
    memory = None if torch.compiler.is_compiling() else _memory.get()
    if memory is None:
        return None
    key = id(owner), name
    if key not in memory:
        memory[key] = owner, make()
    return memory[key][1]


def _alike(kept: tuple, given: tuple) -> bool:
    return len(kept) == len(given) and all(
        k is g or (not isinstance(k, torch.Tensor) and not isinstance(g, torch.Tensor) and k == g)
        for k, g in zip(kept, given, strict=True)
    )
