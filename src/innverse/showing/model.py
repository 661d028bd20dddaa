"""A flow or a generator: the tree of its layers, with the parameters of each level."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import torch

from .card import Card, Facts, shape_of
from .structure import Node, describe, render, summary

_LINES = 300  # of a tree; what is below is not shown
_OPEN = 1  # levels that are unfolded at first


@dataclass
class Tree:
    """A tree whose branches fold."""

    node: Node

    def text(self) -> str:
        lines = render(self.node)
        more = [f"… and {len(lines) - _LINES} more lines"] if len(lines) > _LINES else []
        return "\n".join(lines[:_LINES] + more)

    def html(self) -> str:
        left = [_LINES]
        body = self._branch(self.node, 0, left)
        return body if left[0] >= 0 else body + '<p class="soft">… and more below</p>'

    def _branch(self, node: Node, depth: int, left: list[int]) -> str:
        left[0] -= 1
        if left[0] < 0:
            return ""
        times = f"{node.count} × " if node.count > 1 else ""
        shape = "" if node.shape is None else shape_of(node.shape)
        size = f"{node.parameters:,}" if node.parameters else "–"
        line = (
            f'<span class="what">{escape(times + node.label)}</span>'
            f'<span class="shape">{shape}</span><span class="size">{size}</span>'
        )
        if not node.children:
            return f'<div class="leaf">{line}</div>'
        inside = "".join(self._branch(child, depth + 1, left) for child in node.children)
        unfolded = " open" if depth <= _OPEN else ""
        return f"<details{unfolded}><summary>{line}</summary>{inside}</details>"


def card(model: Any) -> Card:
    """Of a flow or a generator."""
    facts = {}
    if getattr(model, "condition", 0):
        facts["condition"] = f"{model.condition} channels"
    if getattr(model, "x_range", None):
        facts["values"] = f"{model.x_range[0]:g} to {model.x_range[1]:g} {model.units}"
    if told := getattr(model, "measurement", None):
        facts["answers"] = f"{told['physics']}, noise {told['noise'][0]:g} to {told['noise'][1]:g}"
    tree = Tree(describe(model))
    return Card(
        type(model).__name__, summary(model), blocks=[Facts(facts), tree] if facts else [tree]
    )


def conditioned(view: Any) -> Card:
    """Of a flow whose condition is fixed."""
    c, found = view.c, card(view.flow)
    fixed = f"c = {c:g}" if isinstance(c, (int, float)) else f"c of {shape_of(torch.as_tensor(c))}"
    found.title, found.blocks = type(view).__name__, [Facts({"fixed": fixed}), *found.blocks]
    return found
