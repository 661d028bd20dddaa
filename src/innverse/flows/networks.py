"""Networks of couplings by name, for ``net=`` of the builders."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import nn

from ..errors import UsageError
from ..nets import MLP
from .registry import NETWORKS, register_network

register_network(MLP, name="mlp")


def as_network(net: str | Callable[..., nn.Module], **options) -> Callable[[int, int], nn.Module]:
    """``make(n_in, n_out)`` of a registered name or a function ``net(n_in, n_out, ...)``.

    Of the ``options`` it gets those that it takes.

    Raises:
        UsageError: an unknown name; a condition, and the network takes none.
    """
    make = NETWORKS.builder(net) if isinstance(net, str) else net
    if not callable(make):
        raise UsageError(f"net={net!r}: give a function of n_in and n_out, or a registered name")
    takes = inspect.signature(make).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        if options.get("condition") and "condition" not in takes:
            raise UsageError(f"the network {net!r} takes no condition: give it an option condition")
        options = {key: value for key, value in options.items() if key in takes}
    return lambda n_in, n_out: make(n_in, n_out, **options)
