"""What a model is made of, from data to latent: a tree of its layers, equal steps shown once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .words import words

if TYPE_CHECKING:
    from torch import nn

    from ..flows import Flow
    from ..generators import Generator


@dataclass
class Node:
    """A line of the tree: ``count`` equal copies in a row, with ``parameters`` in all."""

    label: str
    shape: tuple[int, ...] | None = None
    parameters: int = 0
    count: int = 1
    children: list[Node] = field(default_factory=list)


# the parts of a flow in the order in which data meet them; those of other models stay as they are
_ORDER = ("noise", "condition_scale", "condition_net", "bijection", "tail", "embedding", "core")


def describe(model: Flow | Generator) -> Node:
    """The structure of a model; the parameters of each node are those of all below it."""
    shape = tuple(model.shape)
    inside = {"core": model.latent_shape}
    inside |= dict.fromkeys(("bijection", "tail"), _padded(shape, model.multiple))
    top = Node(words(model.name or type(model).__name__), shape, model.n_parameters)
    parts: dict[str, Any] = dict(model.named_children())
    for name in sorted(parts, key=lambda n: _ORDER.index(n) if n in _ORDER else -1):
        part = parts[name]
        if name in inside:
            node = _bijection(part, inside[name])
        elif name == "noise":
            features = part.net[-2].out_features
            node = Node(f"NoiseLevel {part.low:g} .. {part.high:g} -> {features} features")
        elif hasattr(part, "of_images"):  # a network of a generator
            node = _network(part, shape if part.of_images else model.latent_shape)
            node.label = f"{name}: {node.label}"
        else:
            node = Node(f"{name}: {_label(part)}")
        node.parameters = _size(part)
        top.children.append(node)
    return top


def _padded(shape: tuple[int, ...], multiple: int) -> tuple[int, ...]:
    return (*shape[:1], *(-(-n // multiple) * multiple for n in shape[1:]))


def _bijection(layer: Any, shape: tuple[int, ...]) -> Node:
    """A layer that gets items of ``shape``; bijections keep it, so one shape is enough."""
    import torch

    from ..bijections import Chain, Coupling, MaskedCoupling, Partial

    node = Node(_label(layer), shape, _size(layer))
    if isinstance(layer, Chain):
        node.children = collapse([_bijection(inner, shape) for inner in layer.layers])
    elif callable(down := getattr(layer, "down", None)):  # squeeze, wavelet, patches
        inside = tuple(down(torch.zeros(1, *shape, device=_device(layer))).shape[1:])
        node.children = _without_chain(_bijection(layer.get_submodule("inner"), inside))
    elif isinstance(layer, Partial):
        node.children = _without_chain(_bijection(layer.inner, (layer.k, *shape[1:])))
    elif isinstance(layer, Coupling):
        node.children = [_network(layer.net, (layer.split.keep, *shape[1:]))]
    elif isinstance(layer, MaskedCoupling):
        node.children = [_network(layer.net, shape)]
    elif hasattr(layer, "inner"):
        node.children = _without_chain(_bijection(layer.get_submodule("inner"), shape))
    return node


def _without_chain(node: Node) -> list[Node]:
    """The layers of a plain chain, without the line that says so."""
    return node.children if node.label == "Chain" and node.children else [node]


def _network(net: nn.Module, shape: tuple[int, ...]) -> Node:
    """A conditioner network in one line: its widths from input to output."""
    widths: list[int] = []
    for part in net.modules():
        ends = [
            getattr(part, f"{end}_{kind}", None)
            for kind in ("channels", "features")
            for end in ("in", "out")
        ]
        numbers = [n for n in ends if isinstance(n, int)]
        # FiLM layers look at the condition, not at the data
        if len(numbers) == 2 and (not widths or numbers[0] == widths[-1]):
            widths += numbers[1:] if widths else numbers
    label = type(net).__name__ + (" " + " -> ".join(map(str, widths)) if widths else "")
    condition = getattr(net, "condition", 0)
    if condition:
        label += f", condition {condition} by {net.how}"
    return Node(label, shape, _size(net))


def _label(layer: nn.Module) -> str:
    detail = layer.extra_repr()
    return words(f"{type(layer).__name__}({detail})" if detail else type(layer).__name__, 200)


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _device(module: nn.Module) -> Any:
    return next((t.device for t in (*module.parameters(), *module.buffers())), None)


def collapse(nodes: list[Node]) -> list[Node]:
    """Runs of equal steps, of one or several layers, as one node with a count."""
    out: list[Node] = []
    i = 0
    while i < len(nodes):
        period, count = _longest_run(nodes, i)
        if count == 1:
            out.append(nodes[i])
            i += 1
            continue
        span = nodes[i : i + period]
        total = sum(node.parameters for node in nodes[i : i + period * count])
        if period == 1:
            out.append(Node(span[0].label, span[0].shape, total, count, span[0].children))
        else:
            out.append(Node("step", span[0].shape, total, count, span))
        i += period * count
    return out


def _longest_run(nodes: list[Node], i: int) -> tuple[int, int]:
    """(period, count) of the repetition at i that covers most; the shortest such period."""
    best = (1, 1)
    for period in range(1, (len(nodes) - i) // 2 + 1):
        count = 1
        step = nodes[i : i + period]
        while step == nodes[i + count * period : i + (count + 1) * period]:
            count += 1
        if count > 1 and period * count > best[0] * best[1]:
            best = (period, count)
    return best


def render(tree: Node) -> list[str]:
    """The tree as aligned lines: structure, shape, parameters."""
    rows: list[tuple[str, str, str]] = []

    def visit(node: Node, lead: str, branch: str, below: str) -> None:
        times = f"{node.count} x " if node.count > 1 else ""
        shape = "" if node.shape is None else " x ".join(map(str, node.shape))
        number = f"{node.parameters:,}" if node.parameters else "-"
        rows.append((lead + branch + times + node.label, shape, number))
        for k, child in enumerate(node.children):
            last = k == len(node.children) - 1
            visit(child, lead + below, "└─ " if last else "├─ ", "   " if last else "│  ")

    visit(tree, "", "", "")
    rows.insert(0, ("structure", "shape", "parameters"))
    first, second, third = (max(len(row[k]) for row in rows) for k in range(3))
    return [f"{a:<{first}}   {b:<{second}}   {c:>{third}}".rstrip() for a, b, c in rows]


def summary(flow: Flow | Generator) -> str:
    """Size, shape and noise levels in one line."""
    shape = " x ".join(map(str, flow.shape))
    name = words(flow.name or "built by hand")
    text = f"{name}, {flow.n_parameters:,} parameters, items of {shape}"
    if flow.latent_shape != flow.shape:
        text += f"; {flow.latent_shape[0]} latents, this size only"
    elif len(flow.shape) == 3:
        text += f"; any size (padded to a multiple of {flow.multiple})"
    if flow.noise_range is not None:
        low, high = flow.noise_range
        text += f"; noise levels {low:g} to {high:g}"
    if (x_range := getattr(flow, "x_range", None)) is not None:
        text += f"; trained on values {x_range[0]:g} to {x_range[1]:g} {flow.units}".rstrip()
    return text
