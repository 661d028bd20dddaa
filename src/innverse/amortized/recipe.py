"""A whole amortised inference from one TOML file: learn, check, infer."""

from __future__ import annotations

import io
import tomllib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..data.atomic import atomic_write, write_json
from ..errors import InputError, UsageError


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Table):
    """The simulations, see `innverse.amortized.tables.read_array`."""

    path: str
    theta: str | list[str] | None = None
    x: str | list[str] | None = None
    names: list[str] | None = None
    low: list[float] | float | None = None
    """Lower bounds of the parameters, one for all or one each (-inf: none)."""
    high: list[float] | float | None = None


class Model(_Table):
    """What is learned, see `innverse.amortized.fit`."""

    density: Literal["spline", "realnvp", "mdn"] = "spline"
    summary: Literal["auto", "none", "mlp", "set", "series", "image"] = "auto"
    size: dict[str, int] | None = None


class Train(_Table):
    """How, see `innverse.amortized.training.Schedule`."""

    held_out: float = Field(0.1, gt=0, lt=1)
    lr: float = Field(1e-3, gt=0)
    batch_size: int | None = Field(None, ge=1)
    patience: int = Field(8, ge=1)
    max_epochs: int = Field(1000, ge=1)
    minutes: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0)


class Check(_Table):
    """The test of calibration, on pairs that are kept out of everything else."""

    pairs: int = Field(500, ge=0)
    """At most a tenth of the simulations; 0 for no test."""
    draws: int = Field(500, ge=10)


class Infer(_Table):
    """Observations to infer right away: a file with the columns or the array x."""

    path: str | None = None
    draws: int = Field(1000, ge=1)


class Out(_Table):
    dir: str | None = None


class Recipe(_Table):
    """All tables of the file."""

    data: Data
    model: Model = Model()
    train: Train = Train()
    check: Check = Check()
    infer: Infer = Infer()
    out: Out = Out()


def load_recipe(path: Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a TOML file; ``overrides`` are ``{"train.seed": 1}``, None is ignored.

    Raises:
        InputError: the file cannot be read.
        UsageError: bad TOML, an unknown key, a wrong value; one line.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    for key, value in (overrides or {}).items():
        if value is not None:
            table, _, name = key.partition(".")
            raw.setdefault(table, {})[name] = value
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise UsageError("; ".join(_line(e, path) for e in error.errors())) from None


def run_recipe(recipe: Recipe, folder: Path, *, progress: bool = True) -> dict[str, Any]:
    """Do what the file says; returns the summary that ``calibration.json`` holds too."""
    from ..metrics import calibration
    from .checks import as_pairs, leave_out_invalid
    from .fit import fit
    from .tables import read_array

    data = recipe.data
    theta, names = read_array(data.path, data.theta, "theta")
    x, _ = read_array(data.path, data.x, "x")
    seen = None
    if recipe.infer.path is not None:  # before the training: a wrong path should not waste it
        seen, _ = read_array(recipe.infer.path, data.x, "x")
    theta, x = as_pairs(theta, x)
    theta, x, excluded = leave_out_invalid(theta, x)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(recipe.train.seed))
    kept = min(recipe.check.pairs, len(x) // 10)
    test, rows = order[:kept], order[kept:]
    posterior = fit(
        theta[rows],
        x[rows],
        bounds=None if data.low is None and data.high is None else (data.low, data.high),
        names=data.names or names,
        **recipe.model.model_dump(),
        **recipe.train.model_dump(),
        progress=progress,
    )
    posterior.save(folder)
    history = posterior.history
    summary: dict[str, Any] = {
        "simulations": posterior.n_simulations,
        "excluded": excluded,
        "names": posterior.names,
        "held_out_nll": history.best,
        "epochs": history.epochs,
        "seconds": history.seconds,
        "ended": history.ended,
        "checked_pairs": kept,
        "calibration_error": float("nan"),
    }
    generator = torch.Generator().manual_seed(recipe.train.seed)
    if kept:
        theta, x = theta[test], x[test]
        draws = posterior.sample_batched((recipe.check.draws,), x, generator=generator)
        found = calibration.coverage(draws, theta)
        summary["calibration_error"] = calibration.calibration_error(draws, theta)
        summary["levels"], summary["covered"] = found.levels, found.covered
        summary["sbc_p_values"] = calibration.sbc(draws, theta).p_values
        summary["tarp_p_value"] = calibration.tarp(draws, theta).p_value
        learned = calibration.contraction(draws, theta)
        summary["contraction"] = learned.contraction.mean(0)
    if seen is not None:
        draws = posterior.sample_batched((recipe.infer.draws,), seen, generator=generator)
        summary["mean"], summary["std"] = draws.mean(0), draws.std(0)
        summary["rank"] = posterior.rank(seen)
        buffer = io.BytesIO()
        np.savez(buffer, draws=draws.numpy(), names=np.array(posterior.names))
        atomic_write(folder / "draws.npz", buffer.getvalue())
    write_json(folder / "calibration.json", summary)
    return summary


def _line(error: dict[str, Any], path: Path) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        table = Recipe.model_fields.get(str(error["loc"][0]))
        known = Recipe.model_fields if len(error["loc"]) == 1 else table.annotation.model_fields
        return f"unknown key {key} in {path}: known are {', '.join(known)}"
    if error["type"] == "missing":
        return f"{key} is missing in {path}"
    return f"{key} in {path}: {error['msg'][:1].lower()}{error['msg'][1:]}"
