"""`torch.compile` of a long chain: every layer is a graph of its own, which layers of one kind share.

As one graph, twelve spline couplings take the compiler minutes; a coupling takes seconds, and serves
all twelve.
"""

from __future__ import annotations

import functools
from types import FunctionType
from typing import Any

import torch

from .. import torch_private

UNROLLED = 4  # layers up to which a chain stays one graph

_skipped: dict[str, Any] = {}
_methods: list[tuple[Any, bool]] = []


def layer_by_layer(*, compile: bool = True):
    """For a method of a chain that goes through its layers: in a long one the compiler leaves it to
    Python, and compiles only what it calls (or with ``compile=False`` not even that).

    Not where one graph is asked for: by fullgraph=True, or by an export.
    """

    def decorate(method: Any) -> Any:
        name = method.__qualname__
        _methods.append((method, compile))

        @functools.wraps(method)
        def run(self, *arguments, **named):
            if torch.compiler.is_compiling() and len(self.layers) > UNROLLED and not _one_graph():
                return _skipped[name](self, *arguments, **named)
            return method(self, *arguments, **named)

        return run

    return decorate


@torch_private.constant_while_compiling
def _one_graph() -> bool:
    """Read off the compiler while it traces; if it does not say, one graph is what always works."""
    one = torch_private.compiles_one_graph()
    if one is None:
        return True
    if not _skipped:  # not before: it would import the compiler, which takes seconds
        _skipped.update((m.__qualname__, _skipping(m, compile)) for m, compile in _methods)
    return one


def _skipping(method: Any, compile: bool) -> Any:
    """A copy that the compiler does not look into; what it calls is compiled, or is not."""
    code = method.__code__.replace(co_name=f"{method.__name__}_by_layers")
    parts = method.__globals__, code.co_name, method.__defaults__, method.__closure__
    return torch.compiler.disable(FunctionType(code, *parts), recursive=not compile)
