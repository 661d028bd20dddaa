"""The settings of a training run: one schema for TOML files, flags and checkpoints.

A file has four tables, ``[data]``, ``[model]``, ``[train]`` and ``[out]``, and ``[condition]`` where
the model is to answer measurements of its pictures. Only ``data.path`` has no
default; what lies there, pictures or a table of numbers, decides what else may be said
(`TrainingConfig`, `TableTrainingConfig`). Every key that is not listed here is an error that names
the nearest key that exists; the options of the model itself (``levels``, ``hidden``, ...) belong to
its builder, see :func:`innverse.flows.build` and :func:`innverse.generators.build`.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ..catalog import OPERATORS
from ..errors import UsageError
from ..reading import parse_toml, read_toml

Schema = TypeVar("Schema", bound=BaseModel)
MOST_THREADS = max(256, 4 * (os.cpu_count() or 1))
"""More would only exhaust the process table of the system."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value, info):
        """``true`` is no number 1: who writes it meant something else."""
        if isinstance(value, bool) and not _admits(
            cls.model_fields[info.field_name].annotation, bool
        ):
            raise ValueError("input should be a number, a text or a list")
        return value


def _admits(hint: Any, kind: type) -> bool:
    """Whether a type hint names ``kind`` anywhere."""
    return hint is kind or any(_admits(part, kind) for part in get_args(hint))


class DataConfig(_Table):
    """Where the images come from and how crops are cut from them."""

    path: str
    """Folder, tar, ``.npy``/``.npz``, IDX file or built-in name; see `innverse.data.open_images`."""
    subset: str | None = None
    """A part of it: a folder inside a folder or archive, an array of a ``.npz``, the ``"t10k"``
    images of MNIST."""
    held_out: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] = 64
    """Images kept out of training for the evaluation, as a number or a fraction; 0 for none, and
    never more than a fifth of them all."""
    held_out_subset: str | None = None
    """Another part, as ``subset``, whose images are for the evaluation instead: other patients, say."""
    channels: Literal[1, 3] | None = None
    """1 (gray) or 3 (RGB); None takes the images as they are."""
    crop: int | None = Field(None, ge=2, le=16_384)
    """Side of the square crops in pixels; None takes images of one size whole up to 64 pixels."""
    flip: bool = True
    transpose: bool = False
    range: tuple[float, float] | None = None
    """Of slices with units (DICOM, NIfTI, floats, ...): the values that the model has at 0 and 1, in
    `units`; what lies beyond is clipped. None finds the smallest and the largest."""
    units: str | None = None
    """Of ``range``; read from the files."""
    license: str = "not stated"
    """Goes to the card of the saved model."""

    @field_validator("range")
    @classmethod
    def _ascending(cls, given):
        if given is not None and not given[0] < given[1]:
            raise ValueError("range = [low, high] needs low < high")
        return given


class TableDataConfig(_Table):
    """The table and its columns."""

    path: str
    """``.csv`` (with a header), ``.parquet``, ``.npz`` or ``.npy``; see
    `innverse.data.columns.read_columns`."""
    columns: str | list[str] | None = None
    """What is learned, by name or prefix, or the array of a ``.npz``; None takes all that are no
    condition."""
    condition: str | list[str] | None = None
    """Columns that are given: p(columns | condition)."""
    held_out: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Rows that judge progress, as a number or a fraction."""
    license: str = "not stated"
    """Goes to the card of the saved model."""


class TableModelConfig(BaseModel):
    """The flow: its registered name and any option of its builder."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    name: str = "nsf"

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the builder."""
        return dict(self.model_extra or {})


class ModelConfig(TableModelConfig):
    """The flow or generator: its registered name, noise range, any option of its builder."""

    name: str = "glow"
    noise: tuple[float, float] | None = None
    """``[lo, hi]``: condition on sigma, log-uniform in this range (units of images in [0, 1])."""
    init: str | None = None
    """Folder of a saved model to start from (fine-tuning); its options must be the same."""

    @field_validator("noise")
    @classmethod
    def _ordered(cls, noise):
        if noise is not None and not 0 < noise[0] <= noise[1]:
            raise ValueError("noise = [lo, hi] needs 0 < lo <= hi")
        return noise

    @property
    def adversarial(self) -> bool:
        """Whether a critic trains it, instead of a likelihood."""
        return self.name == "gan"


_Level = Annotated[float, Field(gt=0)]


class ConditionConfig(_Table):
    """Measurements that the model answers: p(picture | measurement). What else stands here are options
    of the operator; one that has a ``seed`` is drawn anew for every crop unless that is given."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    physics: str
    """One of `innverse.physics.names`."""
    noise: _Level | tuple[_Level, _Level]
    """Standard deviation of the noise of measurements; ``[lo, hi]``: log-uniform in this range."""
    sigma: float = Field(0.02, gt=0)
    """Of the noise that pictures get before they are measured: what is learned is their density at
    this level, as method "posterior" samples it."""

    @model_validator(mode="after")
    def _known(self):
        try:
            OPERATORS.declared(self.physics)(**self.options)
        except UsageError as error:
            raise ValueError(str(error)) from None
        low, high = self.levels
        if low > high:
            raise ValueError("noise = [lo, hi] needs lo <= hi")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """Of the operator."""
        return dict(self.model_extra or {})

    @property
    def levels(self) -> tuple[float, float]:
        """The lowest and the highest noise."""
        return self.noise if isinstance(self.noise, tuple) else (self.noise, self.noise)

    @property
    def draws_operators(self) -> bool:
        """Whether every crop gets a random operator of its own."""
        declared = OPERATORS.declared(self.physics).declared
        settled = {other for name in self.options for other in declared[name].excludes}
        return "seed" in declared and "seed" not in self.options.keys() | settled

    def describe(self) -> dict[str, Any]:
        """What a model says of itself, see `innverse.flows.Flow`."""
        name = OPERATORS.real_name(self.physics)
        return {
            "physics": name,
            "options": self.options,
            "noise": list(self.levels),
            "sigma": self.sigma,
        }


_Beta = Annotated[float, Field(ge=0, lt=1)]
_Count = Annotated[int, Field(ge=1, le=10**9)]


class TrainConfig(_Table):
    """Optimisation, evaluation and book-keeping."""

    steps: int = Field(10_000, ge=1, le=10**9)
    minutes: float | None = Field(None, gt=0)
    """Time for the whole run, which chooses the steps and all else that is not given: the kind and size
    of the model, crops, batch, learning rate (`innverse.train.automatic`)."""
    batch_size: int = Field(16, ge=1, le=2**20)
    """Images of one step, all processes together."""
    lr: float = Field(1e-3, gt=0)
    lr_floor: float = Field(0.01, ge=0, le=1)
    """Learning rate at the last step, as a fraction of ``lr``."""
    critic_lr: float | None = Field(None, gt=0)
    """Learning rate of a GAN's critic, with the same course; None means ``lr``."""
    warmup: int = Field(200, ge=0, le=10**9)
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[_Beta, _Beta] = (0.9, 0.99)
    clip: float = Field(1.0, gt=0)
    """Largest gradient norm; larger gradients are scaled down to it."""
    ema: float = Field(0.999, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16``: conditioner networks in bfloat16; the flow state stays float32."""
    memory: Literal["store", "checkpoint", "reversible", "auto"] = "store"
    """What back-propagation keeps, see `innverse.bijections.Chain`."""
    score_matching: float = Field(0.0, ge=0)
    """Weight of the denoising score matching term (needs ``model.noise``)."""
    score_matching_from: float = Field(0.0, ge=0, le=1)
    """Fraction of the steps after which that term starts."""
    seed: int = Field(0, ge=0, lt=2**63)
    skip_factor: float = Field(20.0, gt=1)
    """A step whose gradient norm exceeds this multiple of the running median is skipped."""
    skip_jump: float = Field(3.0, gt=0)
    """A step whose loss is this many nats/dim above the running median is skipped."""
    max_skips: _Count = 50
    """So many skipped steps in a row end the run with an error."""
    log_every: _Count = 10
    eval_every: _Count = 1000
    eval_images: _Count = 64
    checkpoint_every: _Count = 1000
    sample_every: _Count = 5000
    report: bool = True
    """Judge a noise-conditional prior at the end, see `innverse.train.verdict`."""
    keep: _Count = 2
    """Checkpoints that stay on disk."""
    threads: int | None = Field(None, ge=1, le=MOST_THREADS)
    """CPU threads per process; None leaves PyTorch's choice."""


class TableTrainConfig(_Table):
    """How a table is learned; what is None or not here is up to `innverse.fit`."""

    steps: int = Field(100_000, ge=1, le=10**9)
    """At most; whole epochs. Training ends sooner when progress does."""
    batch_size: int | None = Field(None, ge=1, le=2**20)
    lr: float = Field(1e-3, gt=0)
    patience: int = Field(20, ge=1, le=10**9)
    """Epochs without progress that end the training."""
    minutes: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = Field(0, ge=0, lt=2**63)
    threads: int | None = Field(None, ge=1, le=MOST_THREADS)
    """CPU threads; None leaves PyTorch's choice."""


class OutConfig(_Table):
    """Where the run lives."""

    dir: str | None = None
    """Folder of the run; None means ``runs/<name of the config file>``."""
    name: str | None = None
    """Name on the card of the saved model; None means the folder's name."""


class TableTrainingConfig(_Table):
    """A whole training on a table."""

    data: TableDataConfig
    model: TableModelConfig = TableModelConfig()
    train: TableTrainConfig = TableTrainConfig()
    out: OutConfig = OutConfig()


class TrainingConfig(_Table):
    """A whole training on images.

    Example:
        >>> config = TrainingConfig(data={"path": "photos/", "crop": 32}, train={"steps": 5000})
        >>> config.model.name, config.train.lr, config.fitted(3, None).shape
        ('glow', 0.001, (3, 32, 32))
    """

    data: DataConfig
    model: ModelConfig = ModelConfig()
    condition: ConditionConfig | None = None
    train: TrainConfig = TrainConfig()
    out: OutConfig = OutConfig()

    @model_validator(mode="after")
    def _consistent(self):
        if self.condition is not None and self.model.noise is not None:
            raise ValueError(
                "[condition] and model.noise exclude each other: the model knows one noise level, "
                "condition.sigma"
            )
        if self.train.score_matching and self.model.noise is None and self.condition is None:
            raise ValueError("train.score_matching needs model.noise = [lo, hi]")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one training crop, once `fitted` to the images."""
        return (self.data.channels or 0, self.data.crop or 0, self.data.crop or 0)

    def fitted(
        self,
        channels: int,
        size: tuple[int, int] | None,
        x_range: tuple[float, float] | None = None,
        units: str = "",
    ) -> TrainingConfig:
        """With ``data.channels``, ``data.crop`` and ``data.range`` from the images, where they are not
        given.

        ``size`` is the (height, width) of all images, or None where they differ.
        """
        data = {
            "range": x_range,
            "units": units or None,
            "channels": self.data.channels or channels,
            "crop": self.data.crop or min(64, *(size or (64,))),
        }
        return self.model_copy(update={"data": self.data.model_copy(update=data)})

    def curve(self) -> dict[str, Any]:
        """The part of the settings that the loss curve depends on, as JSON types, flat.

        A checkpoint may only be continued under the same values; how often one evaluates or saves,
        and where, may change.
        """
        tables = self.model_dump(mode="json")
        free = {
            "train": {"log_every", "eval_every", "eval_images", "checkpoint_every", "sample_every",
                      "minutes", "report", "keep", "max_skips", "threads"},
            "data": {"license", "held_out_subset"},
        }  # fmt: skip
        return {
            f"{table}.{key}": value
            for table in ("data", "model", "condition", "train")
            for key, value in (tables[table] or {}).items()
            if key not in free.get(table, ())
        }


def load_config(
    path: str | Path | None = None, overrides: dict[str, Any] | None = None
) -> TrainingConfig | TableTrainingConfig:
    """Read a TOML file and lay ``overrides`` (``{"train.lr": 1e-4}``; None is ignored) over it.

    Raises:
        InputError: the file cannot be read.
        UsageError: bad TOML, an unknown key or a wrong type; one line per fault, each naming the
            key and the file.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("digits.toml").write_text('[data]\\npath = "digits"\\n[train]\\nsteps = 500')
        >>> load_config("digits.toml", {"train.lr": 1e-4}).train.steps
        500
    """
    where = str(path) if path is not None else "the command line"
    raw: dict[str, Any] = {}
    if path is not None:
        raw = read_toml(path)
    lay_over(raw, overrides, where)
    data = raw.setdefault("data", {})
    table = isinstance(data, dict) and _is_table(data.get("path"))
    return validated(TableTrainingConfig if table else TrainingConfig, raw, where)


def _is_table(path: Any) -> bool:
    """Whether ``path`` is a table of numbers and no pictures; arrays are when they have two axes."""
    suffix = Path(path).suffix.lower() if isinstance(path, str) else ""
    if suffix not in (".npy", ".npz"):
        return suffix in (".csv", ".txt", ".parquet", ".pq")
    from ..data.npy import array_axes  # loads torch

    return array_axes(Path(path)) == 2


def validated(schema: type[Schema], raw: dict[str, Any], where: str) -> Schema:
    """``raw`` as a ``schema``, a model whose fields are tables.

    Raises:
        UsageError: an unknown key or a wrong value; one line per fault, with the key and ``where``.
    """
    try:
        return schema.model_validate(raw)
    except ValidationError as e:
        lines = (_line(dict(error), where, schema) for error in e.errors())
        raise UsageError("\n".join(lines)) from None


def lay_over(raw: dict[str, Any], overrides: dict[str, Any] | None, where: str) -> None:
    """Put ``{"table.key": value}`` into the tables of a file, in place; None is ignored.

    Raises:
        UsageError: what should be a table is something else.
    """
    for key, value in (overrides or {}).items():
        if value is not None:
            table, _, name = key.partition(".")
            if not isinstance(raw.setdefault(table, {}), dict):
                raise UsageError(f"{table} in {where}: write it as a table, [{table}]")
            raw[table][name] = value


def parse_setting(text: str) -> tuple[str, Any]:
    """``"table.key=value"`` to the pair an override is; the value is read as TOML, else as text."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or key.count(".") != 1:
        raise UsageError(f"{text!r} is no setting; write table.key=value, e.g. train.ema=0.99")
    try:
        parsed = parse_toml(f"v = {value}")
    except ValueError:
        return key, value.strip()
    return key, parsed["v"] if len(parsed) == 1 else value.strip()


def _line(error: dict[str, Any], where: str, schema: type[BaseModel]) -> str:
    """One fault as one line: the key, what is wrong, what would be right, the file."""
    location = [str(part) for part in error["loc"]]
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"unknown key {key[:80]} in {where}{_hint(location, schema)}"
    if error["type"] == "missing":
        return f"{key} is missing in {where}: add {location[-1]} under [{location[0]}]"
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = error["input"]
    plain = isinstance(given, str | int | float | bool | list)
    got = f", not {_short(given)}" if plain else ""
    return f"{key or 'config'} in {where}: {message}{got}"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        text = "this"
    return text if len(text) <= 80 else text[:77] + "..."


def _hint(location: list[str], schema: type[BaseModel]) -> str:
    kinds = {name: field.annotation for name, field in schema.model_fields.items()}
    tables = {name: list(getattr(kind, "model_fields", ())) for name, kind in kinds.items()}
    if len(location) == 1:
        valid, prefix = list(tables), ""
    else:
        valid, prefix = tables[location[0]], f"{location[0]}."
    near = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {prefix}{near[0]}?"
    owners = [name for name, keys in tables.items() if location[-1] in keys]
    if owners and len(location) == 2:
        return f"; it belongs under [{owners[0]}]"
    if len(location) == 1 and owners:
        return f"; write it under [{owners[0]}]"
    return f"; valid: {', '.join(prefix + v for v in valid)}"
