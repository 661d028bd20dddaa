"""An operator: what it measures, its noise, and the numbers that it holds."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .card import Block, Card, Facts, Pictures, number, shape_of
from .picture import picture_of
from .words import words

if TYPE_CHECKING:
    from ..physics.base import LinearPhysics

_BUFFERS = 4  # of which pictures and ranges are shown
_PICTURES = ("mask", "kernel")  # buffers that one recognises


def card(physics: LinearPhysics) -> Card:
    name, detail = getattr(physics, "name", None) or type(physics).__name__, physics.extra_repr()
    image = physics.image_shape
    facts = {
        "images": "of any size" if image is None else shape_of(image),
        "noise": _named(physics.noise) if hasattr(physics, "noise") else "unknown",
        "kind": _kind(physics),
    }
    buffers = [(n, b) for n, b in physics.named_buffers() if b.numel()][:_BUFFERS]
    facts |= {name: _range(b) for name, b in buffers}
    pictures = [(n, picture_of(_brightest(b))[0], "") for n, b in buffers if _is_picture(n, b)]
    blocks: list[Block] = [Facts(facts)]
    if pictures:
        blocks.append(Pictures(pictures, 128))
    return Card(f"{name}({detail})" if detail else name, _about(physics), blocks=blocks)


def _about(physics: Any) -> str:
    """The first line of what its own class says of itself."""
    text = inspect.cleandoc(type(physics).__dict__.get("__doc__") or "")
    return words(text.split("\n\n")[0].replace("``", ""), 200)


def _kind(physics: LinearPhysics) -> str:
    linear = "linear" if physics.linear else "not linear"
    inverse = "solved in closed form" if physics.direct else "solved by conjugate gradients"
    items = f", {physics.items} of them, one an item" if physics.items > 1 else ""
    return f"{linear}, {inverse}{items}"


def _range(numbers: Tensor) -> str:
    if numbers.is_complex() or numbers.layout != torch.strided:
        return shape_of(numbers)
    low, high = (end.item() for end in numbers.double().aminmax())
    return f"{shape_of(numbers)}, from {number(low)} to {number(high)}"


def _is_picture(name: str, numbers: Tensor) -> bool:
    known = name.rpartition(".")[2] in _PICTURES and numbers.layout == torch.strided
    return known and 2 <= numbers.dim() <= 4


def _named(layer: Any) -> str:
    return f"{type(layer).__name__}({layer.extra_repr()})".removesuffix("()")


def _brightest(numbers: Tensor) -> Tensor:
    """Of several the first, (C, H, W), as bright as it can be."""
    x = numbers[0] if numbers.dim() == 4 else numbers
    x = x.abs() if x.is_complex() else x.double()
    return x / x.abs().max()
