"""Posteriors on disk: config.json + model.safetensors, never pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from .. import __version__
from ..data.atomic import dumps, write_together
from ..errors import InnverseError, InputError
from ..fitting.schedule import History
from ..registry import fits
from ..weights import CONFIG, WEIGHTS, build_to_fit, fill, read_config, tensor_bytes
from .parameters import ParameterTransform
from .regions import Regions

FORMAT_VERSION = 3  # 2: bounds by the probit; 3: regions of every support
POSTERIOR, BIDIRECTIONAL = "innverse-posterior", "innverse-bidirectional-posterior"
TRANSFORM = {"region": list, "dtype": str}  # keys that describe the parameters
P = TypeVar("P")


def save(folder: Path, kind: str, model: nn.Module, history: History | None, facts: dict) -> None:
    """Write ``model`` and the JSON-able ``facts`` into ``folder``: both files, or none where the
    disk is full.

    Raises:
        InnverseError: the folder cannot be written.
        NotConvergedError: weights that are NaN or infinite.
    """
    weights = tensor_bytes(model)
    config = {
        "format": kind,
        "format_version": FORMAT_VERSION,
        "innverse": __version__,
        **facts,
        "history": dataclasses.asdict(history) if history else None,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    # the config goes last, so that a torn write is noticed
    write_together(folder, {WEIGHTS: weights, CONFIG: dumps(config, indent=2) + "\n"})


def load(
    folder: Path,
    kind: str,
    needed: dict[str, type],
    build: Callable[[dict[str, Any], History | None], P],
    modules: Callable[[P], nn.Module],
) -> tuple[P, dict[str, Any]]:
    """What `save` wrote, and its config.

    Args:
        needed: what the config must have, besides what `save` adds, and of which type.
        build: makes the posterior from the config and the history, its weights still at random.
        modules: gives the module whose weights `save` was given.

    Raises:
        InputError: missing, of another kind, or damaged.
    """
    path = folder / CONFIG
    needed = needed | {"sha256": str, "history": dict | None}
    config = read_config(path, (kind,), FORMAT_VERSION, needed, "posterior")
    if not all(isinstance(name, str) for name in config.get("names", [])):
        raise InputError(f"{path} is damaged (names that are no text): save the posterior again")
    history = _history(config["history"], path)
    made: list[P] = []

    def container() -> nn.Module:
        made.append(build(config, history))
        return modules(made[0])

    fill(build_to_fit(container, folder), folder, config["sha256"])
    return made[0], config


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
        if len(config["names"]) != sum(size for _, size in config["region"]):
            raise InputError("the config names other parameters than its region has")
        return ParameterTransform(Regions.from_json(config["region"]), dtype=dtype)
    except (KeyError, TypeError, ValueError):
        raise InputError("the config's region or dtype is none that innverse knows") from None


def _history(given: dict[str, Any] | None, path: Path) -> History | None:
    if given is None:
        return None
    known = {f.name: type(f.default) for f in dataclasses.fields(History)}
    losses = ("held_out", "training")
    known |= dict.fromkeys(losses, list)
    # JSON knows no infinity
    given = {k: math.inf if k == "best" and v is None else v for k, v in given.items()}
    if given.keys() <= known.keys() and all(fits(v, known[k]) for k, v in given.items()):
        lists = {name: given.get(name, []) for name in losses}
        if all(isinstance(v, list) and all(x is None or fits(x, float) for x in v)
               for v in lists.values()):  # fmt: skip
            lists = {k: [math.inf if x is None else x for x in v] for k, v in lists.items()}
            return History(**given | lists)
    raise InputError(f"{path} is damaged (its history): save the posterior again")
