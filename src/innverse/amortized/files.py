"""What the config of a posterior says beside its weights: the history, the parameters' transform."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import InnverseError, InputError
from ..fitting.schedule import History
from ..models.registry import fits
from ..models.store import Format, read, write
from .parameters import ParameterTransform
from .regions import Regions

_NEEDED = {"names": list, "region": list, "dtype": str, "history": dict | None}
_VERSION = 3  # 2: bounds by the probit; 3: regions of every support
P = TypeVar("P")


def form(name: str, needed: dict[str, type]) -> Format:
    """The format of a kind of posteriors."""
    return Format(name, _VERSION, _NEEDED | needed, "posterior")


def save(
    folder: str | Path,
    form: Format,
    model: nn.Module,
    transform: ParameterTransform,
    history: History | None,
    facts: dict[str, Any],
) -> None:
    """Write ``model`` and what belongs to it into ``folder``.

    Raises:
        InnverseError: a support of one's own, which no file can describe (its bounds are among the
            tensors); or the folder cannot be written.
        NotConvergedError: weights that are NaN or infinite.
    """
    region = transform.region.to_json()
    if region is None:
        raise InnverseError(
            "a posterior whose prior has a transform of your own cannot be saved with its "
            "structure: save posterior.estimator.state_dict() with safetensors"
        )
    told = dataclasses.asdict(history) if history else None
    dtype = str(transform.dtype).removeprefix("torch.")
    facts = facts | {"region": region, "dtype": dtype, "history": told}
    write(Path(folder), form, model, facts)


def load(
    folder: str | Path,
    form: Format,
    build: Callable[[dict[str, Any], History | None], P],
    modules: Callable[[P], nn.Module],
) -> tuple[P, dict[str, Any]]:
    """What `save` wrote, and its config.

    Args:
        build: makes the posterior from the config and the history, with any weights.
        modules: gives the module whose weights `save` was given.

    Raises:
        InputError: missing, of another kind, or damaged.
    """

    def made(config: dict[str, Any], path: Path) -> tuple[nn.Module, P]:
        if not all(isinstance(name, str) for name in config["names"]):
            raise InputError("names that are no text: save the posterior again")
        whole = build(config, _history(config["history"], path))
        return modules(whole), whole

    return read(Path(folder), (form,), made)


def transform_of(config: dict[str, Any]) -> ParameterTransform:
    """The transform that a config describes.

    Raises:
        InputError: no such region or type.
    """
    try:
        dtype = {"float32": torch.float32, "float64": torch.float64}[config["dtype"]]
        if len(config["names"]) != sum(size for _, size in config["region"]):
            raise InputError("the config names other parameters than its region has")
        with torch.device("cpu"):  # bounds are looked at; there are as many as names
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
            values: dict[str, Any] = given | lists
            return History(**values)
    raise InputError(f"{path} is damaged (its history): save the posterior again")
