"""Posteriors on disk: config.json + model.safetensors, never pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import nn

from .. import __version__
from ..data.atomic import atomic_write, write_json
from ..errors import InnverseError, InputError
from ..pretrained import read_bytes
from .parameters import ParameterTransform
from .regions import Regions
from .schedule import History

FORMAT_VERSION = 3  # 2: bounds by the probit; 3: regions of every support
POSTERIOR, BIDIRECTIONAL = "innverse-posterior", "innverse-bidirectional-posterior"
TRANSFORM = ("region", "dtype")  # keys that describe the parameters
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save(folder: Path, kind: str, model: nn.Module, history: History | None, facts: dict) -> None:
    """Write ``model`` and the JSON-able ``facts`` into ``folder``; the config goes last, so a torn
    write is noticed.

    Raises:
        InnverseError: the folder cannot be written.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    weights = tensor_bytes(tensors, metadata={"format": "pt"})
    config = {
        "format": kind,
        "format_version": FORMAT_VERSION,
        "innverse": __version__,
        **facts,
        "history": dataclasses.asdict(history) if history else None,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    atomic_write(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, config)


def load(folder: Path, kind: str, needed: set[str]) -> tuple[dict[str, Any], dict, History | None]:
    """The config (with all of ``needed``), the tensors and the history of what `save` wrote.

    Raises:
        InputError: missing, of another kind, or damaged.
    """
    config = _read_config(folder / CONFIG, kind, needed | {"sha256", "history"})
    weights = read_bytes(folder / WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != config["sha256"]:
        raise InputError(f"{folder / WEIGHTS} is damaged (its checksum differs): save it again")
    history = History(**config["history"]) if config["history"] else None
    if history is not None:  # JSON knows no infinity
        history.held_out = [torch.inf if v is None else v for v in history.held_out]
    return config, read_tensors(weights), history


def transform_facts(transform: ParameterTransform) -> dict[str, Any]:
    """What a config says of the parameters; their bounds are among the tensors.

    Raises:
        InnverseError: a support of one's own, which no file can describe.
    """
    region = transform.region.to_json()
    if region is None:
        raise InnverseError(
            "a posterior whose prior has a transform of your own cannot be saved with its "
            "structure: save posterior.estimator.state_dict() with safetensors"
        )
    return {"region": region, "dtype": str(transform.dtype).removeprefix("torch.")}


def transform_of(config: dict[str, Any]) -> ParameterTransform:
    """The transform that `transform_facts` described.

    Raises:
        InputError: no such region or type.
    """
    try:
        dtype = {"float32": torch.float32, "float64": torch.float64}[config["dtype"]]
        return ParameterTransform(Regions.from_json(config["region"]), dtype=dtype)
    except (KeyError, TypeError, ValueError):
        raise InputError("the config's region or dtype is none that innverse knows") from None


def _read_config(path: Path, kind: str, needed: set[str]) -> dict:
    text = read_bytes(path)
    try:
        config = json.loads(text)
    except ValueError:
        raise InputError(f"{path} is not valid JSON: save the posterior again") from None
    if not isinstance(config, dict) or config.get("format") != kind:
        found = config.get("format") if isinstance(config, dict) else None
        what = f" but an {found}" if found in (POSTERIOR, BIDIRECTIONAL) else ""
        raise InputError(f"{path} does not describe an {kind}{what}")
    if config.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {config.get('format_version')}, this innverse reads "
            f"{FORMAT_VERSION}: update innverse or save the posterior again"
        )
    if needed - config.keys():
        raise InputError(f"{path} lacks {', '.join(sorted(needed - config.keys()))}: save it again")
    return config
