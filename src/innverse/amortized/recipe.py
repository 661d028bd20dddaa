"""The TOML file of an amortised inference: its tables, their defaults, and mistakes in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..fitting.schedule import Schedule
from ..nets.summary import SUMMARIES
from ..reading import read_toml
from ..train.config import lay_over, validated


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Simulations(_Table):
    """The simulations: a file, see `innverse.data.columns.read_columns`, or a built-in simulator."""

    path: str | None = None
    simulator: str | None = None
    """A name that `innverse.data.simulators` knows; its likelihood is used where there is one."""
    budget: int = Field(10_000, ge=1, le=10**9)
    """Simulations of the built-in simulator."""
    theta: str | list[str] | None = None
    x: str | list[str] | None = None
    names: list[str] | None = None
    low: list[float] | float | None = None
    """Lower bounds of the parameters, one for all or one each (-inf: none)."""
    high: list[float] | float | None = None

    @model_validator(mode="after")
    def _one_source(self):
        if (self.path is None) == (self.simulator is None):
            raise ValueError("give either path (a file) or simulator (a name)")
        return self


class Model(_Table):
    """What is learned, see `innverse.amortized.fit`."""

    density: Literal["nsf", "realnvp", "mdn", "flow_matching"] = "nsf"
    # pydantic reads the names of the registry, the type checker cannot
    summary: Literal["auto", *SUMMARIES] = "auto"  # ty: ignore[invalid-type-form]
    size: dict[str, int] | None = None


class Train(_Table):
    """How, see `innverse.fitting.training.Schedule`."""

    held_out: float = Field(0.1, gt=0, lt=1)
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False)
    batch_size: int | None = Field(None, ge=1, le=2**20)
    patience: int = Field(Schedule.patience, ge=1, le=10**9)
    max_epochs: int = Field(1000, ge=1, le=10**9)
    minutes: float | None = Field(None, gt=0, allow_inf_nan=False)
    seed: int = Field(0, ge=0, lt=2**63)


class Check(_Table):
    """The test of calibration, on pairs that are kept out of everything else."""

    pairs: int = Field(1000, ge=0, le=10**7)
    """Half of them teach the repair. At most a tenth of the simulations of a file; 0 for no test."""
    draws: int = Field(500, ge=10, le=10**7)


class Infer(_Table):
    """Observations to infer right away: a file with the columns or the array x."""

    path: str | None = None
    draws: int = Field(1000, ge=1, le=10**7)


class Out(_Table):
    dir: str | None = None


class Recipe(_Table):
    """All tables of the file."""

    data: Simulations
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
    raw = read_toml(path)
    lay_over(raw, overrides, str(path))
    return validated(Recipe, raw, str(path))
