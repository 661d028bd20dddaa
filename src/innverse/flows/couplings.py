"""Flows of couplings for vectors: what RealNVP and the neural spline flow have in common."""

from __future__ import annotations

from ..bijections import (
    ActNorm,
    Bijection,
    Chain,
    Coupling,
    Invertible1x1,
    Permute,
    Standardize,
    set_memory,
)
from ..bijections.elementwise import Elementwise
from ..errors import UsageError
from ..nets import MLP
from .flow import Flow

MIXINGS = ("permute", "lu", "swap")


def couplings(
    name: str,
    shape: tuple[int],
    map: Elementwise,
    *,
    layers: int,
    mix: str,
    norm: bool,
    standardize: bool,
    width: int,
    depth: int,
    condition: int,
    how: str,
    activation: str,
    memory: str,
    anchor_every: int | None,
) -> Flow:
    """``layers`` times [ActNorm,] mixing, coupling with ``map``; ``name`` is for errors."""
    if len(shape) != 1 or shape[0] < 2:
        raise UsageError(f"{name} is for vectors (D,) with D >= 2, got shape {tuple(shape)}")
    if mix not in MIXINGS:
        raise UsageError(f"mix={mix!r}: choose one of {', '.join(MIXINGS)}")
    (d,) = shape

    def net(n_in: int, n_out: int) -> MLP:
        return MLP(n_in, n_out, width, depth, condition=condition, how=how, activation=activation)

    def step(k: int) -> list[Bijection]:
        normalise = [ActNorm(d)] if norm else []
        mixing = {"permute": [Permute], "lu": [Invertible1x1], "swap": []}[mix]
        swap = mix == "swap" and k % 2 == 1
        return [*normalise, *(m(d) for m in mixing), Coupling.build(d, net, map, swap=swap)]

    steps = [layer for k in range(layers) for layer in step(k)]
    first = [Standardize(d)] if standardize else []
    last = [ActNorm(d)] if norm else []
    flow = Flow(Chain(*first, *steps, *last), shape, condition=condition)
    return set_memory(flow, memory, anchor_every)
