"""``innverse info``: what a model is made of, as a readable tree."""

from __future__ import annotations

import dataclasses
import re

from ..showing.structure import describe, render, summary
from .options import Json, load_model, print_json


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
    print(f"{model}: {summary(flow)}\n")
    for line in render(tree):
        print(line)
    for title, body in sections(text).items():
        if re.match(r"(data|licen[cs]e|results?|metrics?)\b", title, re.IGNORECASE):
            print(f"\n{title}\n{body}")
    return 0


# ---- around it ----------------------------------------------------------------------------------


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
