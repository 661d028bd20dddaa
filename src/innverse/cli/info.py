"""``innverse info``: what a model is made of, as a readable tree."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .options import Json, load_model, print_json

if TYPE_CHECKING:
    from torch import nn

    from ..flows import Flow
    from ..generators import Generator


def info(model: str | None = None, /, *, json: Json = False) -> int:
    """Show what a model is made of, or list what there is.

    innverse info
    innverse info natural-gray
    innverse info runs/digits/model --json

    The tree is read from top to bottom as data goes to the latent. Each line has
    the shape that enters it and its number of parameters; "8 x" stands for 8 equal
    steps, each with its own parameters, and what is below shows one of them.

    Parameters
    ----------
    model
        Name of a shipped model, a folder with a saved one, or an architecture such as glow.
    """
    if model is None:
        return _overview(json)
    from .. import flows, generators
    from ..models.store import described
    from ..zoo import card, names

    if model in flows.names() + generators.names() and model not in names():
        return _architecture(model, json)
    import torch

    flow = load_model(model, torch.device("cpu"))
    tree = describe(flow)
    text = card(model)
    facts = {
        "model": model,
        "architecture": flow.name,
        "config": described(flow),
        "shape": list(flow.shape),
        "noise_range": flow.noise_range,
        "multiple": flow.multiple,
        "parameters": flow.n_parameters,
    }
    if json:
        print_json(
            {**facts, "tree": dataclasses.asdict(tree), "sections": sections(text), "card": text}
        )
        return 0
    print(f"{model}: {_summary(flow)}\n")
    for line in render(tree):
        print(line)
    for title, body in sections(text).items():
        if re.match(r"(data|licen[cs]e|results?|metrics?)\b", title, re.IGNORECASE):
            print(f"\n{title}\n{body}")
    return 0


# ---- the tree -----------------------------------------------------------------------------------


@dataclass
class Node:
    """A line of the tree: ``count`` equal copies in a row, with ``parameters`` in all."""

    label: str
    shape: tuple[int, ...] | None = None
    parameters: int = 0
    count: int = 1
    children: list[Node] = field(default_factory=list)


def describe(flow: Flow | Generator) -> Node:
    """The structure of a model; the parameters of each node are those of all below it."""
    from ..generators import Generator

    top = Node(flow.name or type(flow).__name__, flow.shape, flow.n_parameters)
    if isinstance(flow, Generator):
        for name, net in flow.named_children():
            node = _network(net, flow.shape if net.of_images else flow.latent_shape)
            top.children.append(dataclasses.replace(node, label=f"{name}: {node.label}"))
        return top
    if flow.noise is not None and flow.noise_range is not None:
        low, high = flow.noise_range
        label = f"NoiseLevel {low:g} .. {high:g} -> {flow.noise.net[-2].out_features} features"
        top.children.append(Node(label, None, _size(flow.noise)))
    top.children.append(_bijection(flow.bijection, flow.shape))
    return top


def _bijection(layer: Any, shape: tuple[int, ...]) -> Node:
    """A layer that gets items of ``shape``; bijections keep it, so one shape is enough."""
    import torch

    from ..bijections import Chain, Coupling, MaskedCoupling, Partial

    node = Node(_label(layer), shape, _size(layer))
    if isinstance(layer, Chain):
        node.children = collapse([_bijection(inner, shape) for inner in layer.layers])
    elif callable(down := getattr(layer, "down", None)):  # squeeze, wavelet, patches
        inside = tuple(down(torch.zeros(1, *shape)).shape[1:])
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
    return f"{type(layer).__name__}({detail})" if detail else type(layer).__name__


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


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


# ---- around it ----------------------------------------------------------------------------------


def _summary(flow: Flow) -> str:
    shape = " x ".join(map(str, flow.shape))
    text = f"{flow.name or 'built by hand'}, {flow.n_parameters:,} parameters, trained on {shape}"
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


def sections(card: str) -> dict[str, str]:
    """The sections (## Title) of a model card."""
    card = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    parts = re.split(r"^## +(.+?) *$", card, flags=re.MULTILINE)
    return {title: body.strip() for title, body in zip(parts[1::2], parts[2::2])}


def _overview(json: bool) -> int:
    from .. import flows, generators, physics, zoo

    found = {
        "models": zoo.names(),
        "architectures": flows.names(),
        "generators": generators.names(),
        "physics": physics.names(),
    }
    if json:
        print_json(found)
        return 0
    for kind, members in found.items():
        print(f"{kind + ':':<15} {', '.join(members) or 'none'}")
    return 0


def _architecture(name: str, json: bool) -> int:
    from ..flows.registry import FLOWS
    from ..generators.registry import GENERATORS

    text, options = (GENERATORS if name in GENERATORS.names() else FLOWS).about(name)
    if json:
        print_json({"architecture": name, "options": options, "help": text})
    else:
        print(f"{name}: {text}\n")
        print("options: " + ", ".join(f"{key} = {value!r}" for key, value in options.items()))
    return 0
