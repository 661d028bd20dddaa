"""Posteriors on disk: config.json + model.safetensors, never pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import nn

from .. import __version__
from ..data.atomic import atomic_write, write_json
from ..errors import InnverseError, InputError
from .estimator import Estimator
from .novelty import TrainingRange
from .schedule import History

if TYPE_CHECKING:
    from .posterior import Posterior

FORMAT, FORMAT_VERSION = "innverse-posterior", 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save(posterior: Posterior, folder: Path) -> None:
    """Write ``posterior`` into ``folder``; the config goes last, so a torn write is noticed.

    Raises:
        InnverseError: a summary network of one's own, whose structure no file can describe; or
            the folder cannot be written.
    """
    if not isinstance(posterior.config["summary"], str):
        raise InnverseError(
            "a posterior with a summary network of your own cannot be saved with its structure: "
            "save posterior.estimator.state_dict() with safetensors"
        )
    both = nn.ModuleDict({"estimator": posterior.estimator, "range": posterior.training_range})
    tensors = {k: v.detach().cpu().contiguous() for k, v in both.state_dict().items()}
    weights = tensor_bytes(tensors, metadata={"format": "pt"})
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "innverse": __version__,
        "names": posterior.names,
        "x_shape": list(posterior.x_shape),
        "default_x": None if posterior.default_x is None else posterior.default_x.tolist(),
        "config": posterior.config,
        "n_simulations": posterior.n_simulations,
        "n_excluded": posterior.n_excluded,
        "history": dataclasses.asdict(posterior.history) if posterior.history else None,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    atomic_write(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, config)


def load(folder: Path) -> Posterior:
    """The posterior in ``folder``; InputError when it is missing, foreign or damaged."""
    from .posterior import Posterior

    config = _read_config(folder / CONFIG)
    weights = _read(folder / WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != config["sha256"]:
        raise InputError(f"{folder / WEIGHTS} is damaged (its checksum differs): save it again")
    names, x_shape, made = config["names"], tuple(config["x_shape"]), config["config"]
    # the bounds themselves are among the tensors
    free = torch.full((len(names),), torch.inf)
    estimator = Estimator(-free, free, x_shape, made["density"], made["summary"], made["size"])
    range_ = TrainingRange(int(torch.Size(x_shape).numel()))
    both = nn.ModuleDict({"estimator": estimator, "range": range_})
    both.load_state_dict(read_tensors(weights))
    history = History(**config["history"]) if config["history"] else None
    if history is not None:  # JSON knows no infinity
        history.held_out = [torch.inf if v is None else v for v in history.held_out]
    counts = config["n_simulations"], config["n_excluded"]
    posterior = Posterior(estimator, range_, names, x_shape, made, history, *counts)
    return posterior.set_default_x(config["default_x"]) if config.get("default_x") else posterior


def _read_config(path: Path) -> dict:
    text = _read(path)
    try:
        config = json.loads(text)
    except ValueError:
        raise InputError(f"{path} is not valid JSON: save the posterior again") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(f"{path} does not describe an innverse posterior")
    if config.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {config.get('format_version')}, this innverse reads "
            f"{FORMAT_VERSION}: update innverse or save the posterior again"
        )
    needed = {"names", "x_shape", "config", "sha256", "n_simulations", "n_excluded", "history"}
    if needed - config.keys():
        raise InputError(f"{path} lacks {', '.join(sorted(needed - config.keys()))}: save it again")
    return config


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
