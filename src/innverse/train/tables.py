"""Training on a table: `innverse.fit` with a folder like that of a training on images."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from .. import flows
from ..data.atomic import write_json
from ..data.columns import read_columns
from ..errors import InputError, UsageError
from ..fitting import History, fit
from ..fitting.checkpoint import latest_checkpoint, load_checkpoint
from ..fitting.rows import choose_batch
from ..progress import Progress
from ..seeding import seeded, stream_seed
from .config import TableDataConfig, TableTrainingConfig
from .metrics import MetricsFile
from .model import built, model_card
from .outcome import Outcome


def read_table(data: TableDataConfig) -> tuple[Tensor, Tensor | None, list[str] | None]:
    """Rows x (N, D), conditions (N, k) or None, and the names of the columns of x if they have any.

    Raises:
        InputError, UsageError: see `read_columns`; or nothing is left to learn.
    """
    c, given = (None, None)
    if data.condition is not None:
        c, given = read_columns(data.path, data.condition)
    x, names = read_columns(data.path, data.columns)
    if data.columns is None and names and given:
        rest = [k for k, name in enumerate(names) if name not in given]
        x, names = x[:, rest], [names[k] for k in rest]
    if x.dim() != 2 or x.shape[1] == 0:
        raise InputError(f"{data.path}: {tuple(x.shape)} is no table (N, D) of at least one column")
    return x, c, names


def train_table(
    config: TableTrainingConfig,
    out: Path,
    resume: bool,
    device: torch.device,
    quiet: bool,
    command: str,
) -> Outcome:
    """Fit a flow to a table; ``out`` gets checkpoint/, metrics.jsonl, config.json and model/."""
    settings, checkpoints = config.train, out / "checkpoint"
    with Progress("reading the table", quiet=quiet):
        x, c, names = read_table(config.data)
    held_out = config.data.held_out
    n_held_out = held_out if isinstance(held_out, int) else round(held_out * len(x))
    n = max(len(x) - n_held_out, 1)
    batch = min(settings.batch_size or choose_batch(n), n)
    per_epoch = max(n // batch, 1)
    with seeded(settings.seed, threads=settings.threads, flush_denormals=True):
        torch.default_generator.manual_seed(stream_seed(settings.seed, 0, "weights"))
        options = config.model.options | ({} if c is None else {"condition": c.shape[1]})
        if config.model.name not in flows.names():
            raise UsageError(
                f"model.name = {config.model.name!r}: tables are learned by "
                f"{', '.join(flows.names())}"
            )
        flow = built(flows, config.model.name, (x.shape[1],), options)
        write_json(out / "config.json", config.model_dump())
        progress = Progress("", quiet=quiet)
        progress.say(
            f"{config.model.name}: {flow.n_parameters:,} parameters on {device}, {n} training and "
            f"{n_held_out} held-out rows of {x.shape[1]} columns -> {out}"
        )
        try:
            history = fit(
                flow,
                x,
                c,
                held_out=held_out,
                batch_size=batch,
                lr=settings.lr,
                patience=settings.patience,
                max_epochs=math.ceil(settings.steps / per_epoch),
                minutes=settings.minutes,
                weight_decay=settings.weight_decay,
                precision=settings.precision,
                device=device,
                seed=settings.seed,
                progress=not quiet,
                checkpoint=checkpoints,
                resume=resume,
            )
        except KeyboardInterrupt:
            newest = latest_checkpoint(checkpoints)
            if newest is None:
                raise
            history = History(**load_checkpoint(newest).state["history"])
            _write_metrics(out, history, per_epoch)
            progress.say(f"continue with:\n  {command or 'the same command'}")
            return Outcome(False, history.steps, history.skipped, out, None, {"nll": history.best})
    _write_metrics(out, history, per_epoch)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    given = "" if c is None else f" given {c.shape[1]} others"
    card = model_card(
        config,
        f"normalizing-flow, invertible-neural-network, {flow.name}",
        f"An invertible neural network ({flow.name}, {flow.n_parameters:,} parameters): an exact "
        f"density of {x.shape[1]} columns{given}" + (f" ({', '.join(names)})" if names else ""),
        f"{n} rows of `{Path(config.data.path).name}`; {n_held_out} rows held out.",
        f"{history.steps} steps of {batch} rows on {where} in {history.seconds / 60:.1f} minutes;\n"
        f"{history.skipped} steps refused as unstable. The weights are the moving average.",
        command,
        {"nll": history.best},
    )
    flow.save_pretrained(out / "model", card=card)
    return Outcome(True, history.steps, history.skipped, out, out / "model", {"nll": history.best})


def _write_metrics(out: Path, history: History, per_epoch: int) -> None:
    metrics = MetricsFile(out / "metrics.jsonl", 0)
    for epoch, losses in enumerate(zip(history.held_out, history.training, strict=True), 1):
        held_out, training = losses
        step = epoch * per_epoch
        metrics.add(kind="eval", step=step, epoch=epoch, nll=held_out, training_nll=training)
    metrics.close()
