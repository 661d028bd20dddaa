"""Models on disk: config.json + model.safetensors (+ README.md), never pickle.

Whatever is saved has a `Format`; models of the registries share one layout, and the format of a
config says which registry builds it.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from .. import __version__
from ..data.atomic import dumps, write_together
from ..errors import InnverseError, InputError, UsageError
from .cards import UNKNOWN, Card
from .hub import CARD, fetch, read_card
from .parts import describe, restore
from .registry import Registry
from .tensors import (
    CONFIG,
    WEIGHTS,
    budget_of,
    build_to_fit,
    read_config,
    read_header,
    tensor_bytes,
)

_LARGEST_ITEM = 1 << 28  # numbers of an image: a gigabyte
T = TypeVar("T")


@dataclass(frozen=True)
class Format:
    """What a config says of itself: ``name``, ``version``, what it must have beside and of which
    type, and what it is called in messages."""

    name: str
    version: int
    needed: dict[str, Any]
    what: str = "model"


_MODEL = {"name": str | None, "shape": list, "config": dict, "sha256": str}
# Each registry is `build`'s, in the package of its models, which is imported when one is loaded
_FORMATS = {
    "innverse-flow": ("innverse.flows.registry", "FLOWS"),
    "innverse-generator": ("innverse.generators.registry", "GENERATORS"),
}


def write(
    folder: Path, form: Format, model: nn.Module, facts: dict[str, Any], card: str | None = None
) -> None:
    """Write ``model`` and JSON-able ``facts`` into ``folder``: all files, or none where the disk is
    full.

    Raises:
        InnverseError: facts that are no JSON, or a folder that cannot be written.
        NotConvergedError: weights that are NaN or infinite.
    """
    weights = tensor_bytes(model)
    about = {"format": form.name, "format_version": form.version, "innverse": __version__}
    config = about | facts | {"sha256": hashlib.sha256(weights).hexdigest()}
    try:
        text = dumps(config, indent=2) + "\n"
    except TypeError as error:
        raise InnverseError(f"the options of this {form.what} cannot be saved: {error}") from None
    # the config goes last, so that a torn write is noticed
    cards = {} if card is None else {CARD: card}
    write_together(folder, {WEIGHTS: weights, **cards, CONFIG: text})


def read(
    folder: Path, forms: tuple[Format, ...], build: Callable[[dict, Path], tuple[nn.Module, T]]
) -> tuple[T, dict[str, Any]]:
    """What `write` wrote, and its config.

    Args:
        forms: of which one is expected, of the same version and with the same needs.
        build: from the config and its path to the module whose tensors were saved, with any weights,
            and what it belongs to.

    Raises:
        InputError: missing, of another format, or damaged.
    """
    path, (form, *_) = folder / CONFIG, forms
    needed = form.needed | {"sha256": str}
    names = tuple(f.name for f in forms)
    config = read_config(path, names, form.version, needed, form.what)
    made: list[T] = []

    def container() -> nn.Module:
        module, whole = build(config, path)
        made.append(whole)
        return module

    build_to_fit(container, folder, config["sha256"])
    return made[-1], config


def save(model, folder: Path, card: str | None = None, **about) -> None:
    """Write a flow or a generator into ``folder``, with a ``card``, or one made of what is told
    ``about`` it (see `card_of`); a model that is what it was when it was loaded keeps the card it had.

    One that was built by name is described by its name and options, any other by its layers.

    Raises:
        InnverseError: a part that no file describes, or a folder that cannot be written.
        NotConvergedError: weights that are NaN or infinite.
    """
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    config = described(model)
    if model.name is None:
        _check_description(model, config)
    facts = {
        "name": model.name,
        "shape": list(model.shape),
        "config": config,
        **({"symmetries": list(model.symmetries)} if getattr(model, "symmetries", ()) else {}),
        **({"measurement": m} if (m := getattr(model, "measurement", None)) else {}),
        **({"x_range": [*r]} if (r := getattr(model, "x_range", None)) else {}),
        **({"units": u} if (u := getattr(model, "units", "")) else {}),
        **({} if dtype == torch.float32 else {"dtype": str(dtype).removeprefix("torch.")}),
        "parameters": model.n_parameters,
    }
    if card is None and not any(about.values()) and model.loaded:
        sha256, kept = model.loaded
        card = kept if hashlib.sha256(tensor_bytes(model)).hexdigest() == sha256 else None
    card = card or card_of(model, folder.name, **about)
    write(folder, Format(model.format, 1, _MODEL), model, facts, card)


def card_of(
    model,
    title: str,
    data: str = "",
    license: str = "",
    command: str = "",
    metrics: Mapping[str, float] | None = None,
) -> str:
    """The card of a model of one's own, which says of itself what it can."""
    name = model.name or f"{type(model).__name__} built by hand"
    options = {"name": name, "shape": list(model.shape)}
    options |= described(model) if model.name else {"layers": f"in {CONFIG}"}
    kind = f"{name}, {model.n_parameters:,} parameters, for data of shape {tuple(model.shape)}"
    return str(
        Card(
            title or name, f"{model.format}, {model.name or 'custom'}", kind, data or UNKNOWN,
            license or UNKNOWN, "", command or UNKNOWN, {"model": options}, metrics or {},
        )
    )  # fmt: skip


def described(model) -> dict[str, Any]:
    """JSON of what a model is built of: the options of its builder, or all its layers."""
    if model.name is None:
        return describe(model)
    return {key: describe(value, key) for key, value in model.config.items()}


def load(path_or_id: str | Path, *, revision: str | None = None, trainable: bool = False):
    """The flow or generator in a folder (or, with huggingface_hub installed, on the hub), in eval mode.

    Parameters do not require gradients unless ``trainable``; a model that was saved in float64 comes
    back in it. On the hub ``revision``, or "user/name@revision", is a commit, tag or branch. Raises
    InputError when the folder is missing, was written by another version, its config describes another
    model than its weights, or either is damaged.
    """
    folder = Path(path_or_id)
    if not os.path.isdir(folder):
        folder = fetch(str(path_or_id), revision)
    elif revision is not None:
        raise UsageError(
            f"revision={revision!r} is for models of the hub, and {folder} is a folder"
        )
    forms = tuple(Format(name, 1, _MODEL) for name in _FORMATS)

    def build(config: dict[str, Any], path: Path) -> tuple[nn.Module, Any]:
        model = _built(config, path, folder)
        return model, model

    model, config = read(folder, forms, build)
    if symmetries := config.get("symmetries"):
        model.symmetries = tuple(symmetries)
    if "measurement" in config:
        model.measurement = _measurement(config["measurement"], folder)
    if "x_range" in config:
        model.x_range, model.units = _range(config, folder)
    model.loaded = config["sha256"], read_card(folder)
    return model.eval().requires_grad_(trainable)


def _built(config: dict[str, Any], path: Path, folder: Path) -> nn.Module:
    """The model of a config, its weights as they start."""
    largest = budget_of(read_header(folder / WEIGHTS))
    shape = _shape(config["shape"], path, largest)
    _check_symmetries(config, path)
    dtype = _known_dtype(config.get("dtype", "float32"), path)
    module, registry = _FORMATS[config["format"]]
    builders: Registry = getattr(import_module(module), registry)
    if config["name"] is None:
        model = restore(config["config"], largest)
        if not isinstance(model, nn.Module) or getattr(model, "format", "") != config["format"]:
            raise InputError(f"{path} describes no model of the format {config['format']}")
        if tuple(model.shape) != shape:
            raise InputError(f"{path} gives the shape {shape} to a model of {tuple(model.shape)}")
    else:
        options = {
            key: restore(value, largest) if isinstance(value, dict) else value
            for key, value in config["config"].items()
        }
        model = builders.build(config["name"], shape, **options)
    return model if dtype == torch.float32 else model.to(dtype)


def _check_description(model: nn.Module, description: dict[str, Any]) -> None:
    """Raise InnverseError where another model would be built of the description."""
    with torch.device("meta"):
        again = restore(description, 1 << 62)
    wanted, found = ({k: tuple(t.shape) for k, t in m.state_dict().items()} for m in (model, again))
    if wanted != found:
        name = sorted(wanted.items() ^ found.items())[0][0]
        raise InnverseError(
            f"this model was changed after it was built ({name}), so its arguments describe another: "
            "build it as it is, or save model.state_dict() with safetensors"
        )


def _shape(given: list, path: Path, largest: int) -> tuple[int, ...]:
    if not all(type(n) is int and n >= 1 for n in given) or not 1 <= len(given) <= 4:
        raise InputError(f"{path} gives the shape {str(given)[:60]}: it is (D,) or (C, H, W)")
    if math.prod(given) > (largest if len(given) == 1 else _LARGEST_ITEM):
        raise InputError(f"{path} gives the shape {str(given)[:60]}, which fits no memory")
    return tuple(given)


def _check_symmetries(config: dict[str, Any], path: Path) -> None:
    given = config.get("symmetries", [])
    if not isinstance(given, list) or any(s not in ("mirror", "transpose") for s in given):
        raise InputError(
            f'{path} gives symmetries {given!r}: they are a list of "mirror" and "transpose"'
        )


def _measurement(given: Any, folder: Path) -> dict[str, Any]:
    """What a model was trained to answer, see `Flow`."""
    wanted = {"physics": str, "options": dict, "noise": list, "sigma": float}
    known = isinstance(given, dict) and given.keys() == wanted.keys()
    if not known or not all(isinstance(given[k], kind) for k, kind in wanted.items()):
        raise InputError(f"{folder / CONFIG} gives a measurement that is none: {str(given)[:60]}")
    levels = [*given["noise"], given["sigma"]]
    if len(levels) != 3 or not all(isinstance(v, float) and 0 < v < math.inf for v in levels):
        raise InputError(f"{folder / CONFIG} gives a measurement with noise {str(levels)[:60]}")
    return given


def _range(config: dict[str, Any], folder: Path) -> tuple[tuple[float, float], str]:
    """The values that a model has at 0 and 1, and their units."""
    given, units = config["x_range"], config.get("units", "")
    known = isinstance(given, list) and len(given) == 2 and isinstance(units, str)
    if not known or not all(type(v) in (int, float) and abs(v) < math.inf for v in given):
        raise InputError(f"{folder / CONFIG} gives a range that is none: {str(given)[:60]}")
    low, high = map(float, given)
    if low >= high:
        raise InputError(f"{folder / CONFIG} gives the range {low:g} to {high:g}: low comes first")
    return (low, high), units[:40]


def _known_dtype(name, path: Path) -> torch.dtype:
    if name not in ("float64", "float32", "bfloat16", "float16"):
        raise InputError(f"{path} gives the dtype {str(name)[:40]!r}: save the model again")
    return getattr(torch, name)
