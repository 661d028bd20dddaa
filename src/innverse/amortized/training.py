"""Maximum likelihood with early stopping on held-out pairs."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InnverseError
from ..train.progress import Progress
from .size import choose_batch

_DROPS = 3  # learning rate cuts before the end
_CUT = 0.3
_MAX_BAD = 50  # refused steps in a row that end the training


@dataclass(frozen=True)
class Schedule:
    """How long and how fast; the defaults need no tuning.

    ``patience`` counts epochs without progress on the held-out pairs, after which the learning
    rate falls to 0.3 of itself; after three such cuts training ends. ``minutes`` ends it early.
    """

    lr: float = 1e-3
    batch_size: int | None = None
    patience: int = 8
    max_epochs: int = 1000
    minutes: float | None = None
    weight_decay: float = 1e-4


@dataclass
class History:
    """What happened: the held-out loss per epoch (the negative log-likelihood in nats, for flow
    matching its regression), and why it ended."""

    held_out: list[float] = field(default_factory=list)
    best: float = math.inf
    epochs: int = 0
    steps: int = 0
    skipped: int = 0
    seconds: float = 0.0
    ended: str = ""


def train(
    model: nn.Module,
    loss: Any,
    data: tuple[Tensor, ...],
    held_out: tuple[Tensor, ...],
    schedule: Schedule,
    *,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Minimise the mean of ``loss(*rows) -> (B,)`` over ``data``; ``model`` keeps its best state.

    Args:
        data, held_out: tensors of equal length; rows of a batch are handed to ``loss``.

    Raises:
        InnverseError: the loss stays NaN or infinite.
    """
    n = len(data[0])
    batch = min(schedule.batch_size or choose_batch(n), n)
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, schedule.lr, betas=(0.9, 0.98), weight_decay=schedule.weight_decay
    )
    history, best = History(), copy.deepcopy(model.state_dict())
    history.best = evaluate(model, loss, held_out)
    begun, waited, drops, bad = time.monotonic(), 0, 0, 0
    per_epoch = max(n // batch, 1)
    # where an epoch is only a few steps, patience in epochs would be no patience
    patience = max(schedule.patience, math.ceil(200 / per_epoch))
    warmup = min(100, per_epoch * 5)
    with Progress(schedule.max_epochs, quiet=not progress) as bar:
        for epoch in range(1, schedule.max_epochs + 1):
            model.train()
            order = torch.randperm(n, generator=generator)[: per_epoch * batch]
            for rows in order.view(per_epoch, batch):
                rate = schedule.lr * _CUT**drops * min(1.0, (history.steps + 1) / warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                taken = _step(optimizer, parameters, loss, [t[rows] for t in data])
                bad = 0 if taken else bad + 1
                history.skipped += not taken
                history.steps += 1
                if bad >= _MAX_BAD:
                    raise InnverseError(
                        f"the loss was NaN or infinite {bad} times in a row: look for extreme "
                        "values in theta or x, or lower lr"
                    )
            value = evaluate(model, loss, held_out)
            history.held_out.append(value)
            history.epochs = epoch
            # the smallest progress that counts: a thousandth of a nat
            waited = 0 if value < history.best - 1e-3 else waited + 1
            if value < history.best:
                history.best, best = value, copy.deepcopy(model.state_dict())
            note = f"held-out loss {value:.3f} (best {history.best:.3f})"
            bar.update(epoch, note)
            if schedule.minutes and time.monotonic() - begun > 60 * schedule.minutes:
                history.ended = "time is up"
                break
            if waited >= patience:
                if drops == _DROPS:
                    history.ended = "no progress on held-out pairs"
                    break
                drops, waited = drops + 1, 0
                model.load_state_dict(best)
        else:
            history.ended = "max_epochs"
        history.seconds = time.monotonic() - begun
        bar.say(
            f"trained {history.epochs} epochs in {history.seconds:.0f} s, held-out loss "
            f"{history.best:.3f}: {history.ended}"
        )
    model.load_state_dict(best)
    model.eval()
    return history


def evaluate(model: nn.Module, loss: Any, data: tuple[Tensor, ...], chunk: int = 8192) -> float:
    """The mean loss over ``data``, without gradient; infinite where it is not a number."""
    model.eval()
    total, n = 0.0, len(data[0])
    with torch.no_grad():
        for start in range(0, n, chunk):
            total += float(loss(*(t[start : start + chunk] for t in data)).double().sum())
    return total / n if math.isfinite(total) else math.inf


def _step(optimizer, parameters, loss, rows) -> bool:
    """One step, unless loss or gradient are not finite."""
    optimizer.zero_grad(set_to_none=True)
    value = loss(*rows).mean()
    if not bool(value.isfinite()):
        return False
    value.backward()
    norm = nn.utils.clip_grad_norm_(parameters, 5.0, foreach=True)
    if not bool(norm.isfinite()):
        return False
    optimizer.step()
    return True
