"""Models on disk: config.json + model.safetensors + README.md, never pickle.

Flows and generators share the layout; the ``format`` of the config says which registry builds it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from . import __version__, flows, generators
from .data.atomic import dumps, write_together
from .errors import InnverseError, InputError
from .weights import CONFIG, WEIGHTS, build_to_fit, fill, read_config, tensor_bytes

ROOMS = {"innverse-flow": flows, "innverse-generator": generators}
FORMAT_VERSION = 1
CARD = "README.md"
_LARGEST_ITEM = 1 << 28  # numbers of an image or vector: a gigabyte


def save(model, folder: Path, card: str | None = None) -> None:
    """Write ``model`` into ``folder``: all files, or none where the disk is full.

    Raises:
        InnverseError: a model made by hand, or a folder that cannot be written.
        NotConvergedError: weights that are NaN or infinite.
    """
    if model.name is None:
        raise InnverseError(
            "only models made by innverse.flows.build or innverse.generators.build can be saved "
            "with their structure; for your own, save model.state_dict() with safetensors"
        )
    kind = "innverse-generator" if isinstance(model, generators.Generator) else "innverse-flow"
    weights = tensor_bytes(model)
    dtype = _dtype(model)
    config = {
        "format": kind,
        "format_version": FORMAT_VERSION,
        "innverse": __version__,
        "name": model.name,
        "shape": list(model.shape),
        "config": model.config,
        **({"symmetries": list(model.symmetries)} if getattr(model, "symmetries", ()) else {}),
        **({} if dtype == torch.float32 else {"dtype": str(dtype).removeprefix("torch.")}),
        "parameters": model.n_parameters,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    try:
        text = dumps(config, indent=2) + "\n"
    except TypeError as error:
        raise InnverseError(f"the options of this {model.name} cannot be saved: {error}") from None
    # the config goes last, so that a torn write is noticed
    card = card or f"# {model.name}\n\nA model saved by innverse {__version__}.\n"
    write_together(folder, {WEIGHTS: weights, CARD: card, CONFIG: text})


def load(path_or_id: str | Path, *, trainable: bool = False):
    """The flow or generator in a folder (or, with huggingface_hub installed, on the hub), in eval mode.

    Parameters do not require gradients unless ``trainable``; a model that was saved in float64 comes
    back in it. Raises InputError when the folder is missing, was written by another version, its
    config describes another model than its weights, or either is damaged.
    """
    folder = Path(path_or_id)
    if not os.path.isdir(folder):
        folder = _download(str(path_or_id))
    path = folder / CONFIG
    needed = {"name": str, "shape": list, "config": dict, "sha256": str}
    config = read_config(path, tuple(ROOMS), FORMAT_VERSION, needed, "model")
    room = ROOMS[config["format"]]
    shape, symmetries = _shape(config["shape"], path), _symmetries(config, path)
    dtype = _known_dtype(config.get("dtype", "float32"), path)

    def build():
        model = room.build(config["name"], shape, **config["config"])
        return model if dtype == torch.float32 else model.to(dtype)

    model = build_to_fit(build, folder)
    fill(model, folder, config["sha256"])
    if symmetries:
        model.symmetries = symmetries
    return model.eval().requires_grad_(trainable)


def _shape(given: list, path: Path) -> tuple[int, ...]:
    if not all(type(n) is int and n >= 1 for n in given) or not 1 <= len(given) <= 4:
        raise InputError(f"{path} gives the shape {str(given)[:60]}: it is (D,) or (C, H, W)")
    if _product(given) > _LARGEST_ITEM:
        raise InputError(f"{path} gives the shape {str(given)[:60]}, which fits no memory")
    return tuple(given)


def _product(sizes: list[int]) -> int:
    n = 1
    for size in sizes:
        n = min(n * size, _LARGEST_ITEM + 1)
    return n


def _symmetries(config: dict[str, Any], path: Path) -> tuple[str, ...]:
    given = config.get("symmetries", [])
    if not isinstance(given, list) or any(s not in ("mirror", "transpose") for s in given):
        raise InputError(
            f'{path} gives symmetries {given!r}: they are a list of "mirror" and "transpose"'
        )
    return tuple(given)


def _dtype(model) -> torch.dtype:
    return next((p.dtype for p in model.parameters()), torch.float32)


def _known_dtype(name, path: Path) -> torch.dtype:
    if name not in ("float64", "float32", "bfloat16", "float16"):
        raise InputError(f"{path} gives the dtype {str(name)[:40]!r}: save the model again")
    return getattr(torch, name)


def _download(name: str) -> Path:
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise InputError(f"{name!r} is no folder with a saved model")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise InputError(
            f"{name!r} is no folder; to fetch it from the hub install innverse[hub]"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG, CARD]))
    except Exception as e:
        raise InputError(f"cannot fetch {name!r} from the hub: {str(e).splitlines()[0]}") from None
