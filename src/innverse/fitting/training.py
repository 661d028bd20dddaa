"""Maximum likelihood with early stopping on held-out pairs; stops and continues between any steps."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..accelerate.captured import Captured
from ..device import runs_ahead
from ..errors import InputError, NotConvergedError
from ..progress import Progress
from ..seeding import reseed, stream_seed
from .average import average_, average_weight
from .checkpoint import (
    Checkpoint,
    grouped,
    latest_checkpoint,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from .descent import Descent
from .interrupt import stop_requests
from .queued import QueuedDescent, average_queued_
from .rows import Loader, Rows
from .schedule import Budget, Decay, History, Schedule

Loss = Callable[..., Tensor]

_NO_MORE_EPOCHS, _NO_MORE_TIME = "max_epochs", "time is up"
_LONGER = "; with a larger limit the same call goes on from here"
_SAVE_EVERY = 30.0  # seconds between checkpoints
_READ_EVERY = 64  # steps of a device that runs ahead


class Training:
    """Minimises the mean of ``loss(*rows) -> (B,)`` over ``data``, one `step` after the other.

    What is judged on ``held_out``, and kept, is a moving average of the weights: the last steps
    alone carry the noise of their batches, and fit the training data too closely. `finish` leaves
    the average that was best in the model. Everything random is a function of seed and step, so a
    training that was interrupted goes on as if it had not been.

    Args:
        data: the batches of every epoch, or tensors of equal length to cut them from.
        held_out: tensors of equal length; like those of a batch they are arguments of ``loss``.
        device: where batches are moved to.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: Rows | Loader | tuple[Tensor, ...],
        held_out: tuple[Tensor, ...],
        schedule: Schedule,
        seed: int = 0,
        device: torch.device | str | None = None,
    ):
        if isinstance(data, tuple):
            data = Rows(data, schedule.batch_size, seed)
        self.model, self.loss, self.data, self.held_out = model, loss, data, held_out
        self.schedule, self.seed, self.device = schedule, seed, device
        self.per_epoch = data.per_epoch
        self.descent = Descent(model, lr=schedule.lr, weight_decay=schedule.weight_decay)
        self.queued: Any = None  # a `QueuedDescent` on a device that runs ahead
        where = next(iter(self.descent.parameters.values())).device
        if runs_ahead(where):
            self.queued = QueuedDescent(self.descent)
            self._captured = Captured(self._descend_queued)
            # of the losses since they were read, and of the refused steps
            self._sums = torch.zeros(2, dtype=torch.float64, device=where)
            if isinstance(data, Rows):
                data.keep_on(where)
        self.history, self.budget = History(), Budget(schedule.max_epochs, schedule.minutes)
        self.decay = Decay(schedule.weight_decay, schedule.heavy_decay, schedule.light_decay)
        self.history.best = self._evaluate(held_out)
        self.best = _copy(model)
        self.average = self._start_average()
        self.waited = 0
        self._sum = 0.0  # of the losses of this epoch

    @property
    def done(self) -> bool:
        return bool(self.history.ended)

    @property
    def percent(self) -> float:
        """How much of the budget is used; it jumps up once progress ends before that."""
        return min(100 * self._used(), 100.0)

    def step(self) -> None:
        """One batch; at the end of an epoch also the judgement of what is held out."""
        started, history = time.perf_counter(), self.history
        epoch, k = divmod(history.steps, self.per_epoch)
        rows = [t.to(self.device, non_blocking=True) for t in self.data.batch(epoch, k)]
        # what a loss draws from the global generator is a function of the step as well
        reseed(stream_seed(self.seed, history.steps, "loss"), rows[0].device)
        if not self.model.training:  # it walks over all modules
            self.model.train()
        if self.queued is not None:
            self._ask(rows)
        else:
            history.skipped += not self._descend(rows)
        history.steps += 1
        if history.steps % _READ_EVERY == 0:
            self._read()
        history.seconds += time.perf_counter() - started
        if k + 1 == self.per_epoch or self._used() >= 1:
            self._judge()

    def finish(self) -> History:
        """Put the best state into the model.

        Raises:
            NotConvergedError: no epoch ended with a finite loss on the held-out pairs.
        """
        losses = self.history.held_out
        if losses and not any(map(math.isfinite, losses)):
            raise NotConvergedError(
                f"training diverged: the held-out loss was not finite after any of {len(losses)} "
                "epochs; lower lr, or look for extreme values in the data"
            )
        self.model.load_state_dict(self.best)
        self.model.eval()
        return self.history

    def _descend(self, rows: list[Tensor]) -> bool:
        """A step against the gradient, unless it is not finite."""
        n = self.history.steps
        loss = self.loss(*rows).mean()
        value = loss.item()
        norm = self.descent.gradient(loss) if math.isfinite(value) else math.nan
        lr = self._learning_rate()
        if self.descent.step(n, value, norm, lr, self.decay.now) is not None:
            return False
        self._sum += value
        average_(self.average.values(), self.descent.parameters.values(), n, self._memory)
        return True

    def _learning_rate(self) -> float:
        warm = min(1.0, (self.history.steps + 1) / self.schedule.warmup(self.per_epoch))
        return self.schedule.lr * warm * self.budget.factor(self._used())

    @property
    def _memory(self) -> float:
        """Steps over which weights are averaged."""
        return self.schedule.averaged * self.per_epoch

    def _ask(self, rows: list[Tensor]) -> None:
        """`_descend` of a device that runs ahead of Python; `_read` says what came of it."""
        weight = average_weight(self.history.steps, self._memory)
        numbers = self._learning_rate(), weight
        on_device = [torch.full((), number, device=rows[0].device) for number in numbers]
        self._captured(*on_device, *rows, weight_decay=self.decay.now)

    def _descend_queued(
        self, lr: Tensor, weight: Tensor, *rows: Tensor, weight_decay: float
    ) -> Tensor:
        loss = self.loss(*rows).mean()
        numbers = self.queued.step(loss, loss, lr, weight_decay)
        average_queued_(self.average.values(), self.descent.parameters.values(), weight, numbers)
        taken = numbers[2] == 0
        self._sums += torch.stack((torch.where(taken, numbers[0], 0), (~taken).double()))
        return numbers

    def _read(self) -> None:
        """Wait for a device that runs ahead, and take over what came of its steps."""
        if self.queued is not None:
            total, refused = self._sums.tolist()
            self._sums.zero_()
            self._sum += total
            self.history.skipped += int(refused)
            self.queued.read(self.history.steps - 1, "the loss or its gradient is not finite")

    def _judge(self) -> None:
        """After an epoch: keep what is best, begin the fall of the learning rate, or end."""
        started, history = time.perf_counter(), self.history
        self._read()
        latest = _copy(self.model)
        self.model.load_state_dict(latest | self.average)
        value = self._evaluate(self.held_out)
        history.held_out.append(value)
        history.training.append(self._sum / self.per_epoch)
        history.epochs += 1
        self._sum = 0.0
        # the smallest progress that counts: a thousandth of a nat
        self.waited = 0 if value < history.best - 1e-3 else self.waited + 1
        if value < history.best:
            history.best, self.best = value, _copy(self.model)
        self.model.load_state_dict(latest)
        history.seconds += time.perf_counter() - started
        used, patience = self._used(), self.schedule.patience_for(self.per_epoch)
        if used >= 1 and self.budget.epochs == self.schedule.max_epochs:
            spent = history.epochs >= self.budget.epochs
            history.ended = _NO_MORE_EPOCHS if spent else _NO_MORE_TIME
        elif used >= 1 or (self.budget.falling and self.waited >= patience):
            history.ended = "no more progress on what is held out"
        elif not self.budget.falling and used >= self.budget.fall_from:
            self.budget.falling, self.waited = True, 0
            if self.decay.on_trial:
                self._return_to_best()
            self.decay.end_trial(history.best)
        elif not self.budget.falling and self.waited >= self.decay.patience * patience:
            self._return_to_best()
            if not self.decay.begin_trial(history.best, self._gap()):
                self.decay.end_trial(history.best)
                self.budget.end_soon(history.epochs, used)

    def _return_to_best(self) -> None:
        self.model.load_state_dict(self.best)
        for mean, now in zip(self.average.values(), self.descent.parameters.values(), strict=True):
            mean.copy_(now.detach())  # in place: a graph may know where they stand
        self.waited = 0

    def _start_average(self) -> dict[str, Tensor]:
        return {k: p.detach().clone() for k, p in self.descent.parameters.items()}

    def _gap(self) -> float:
        """By how much the loss is lower on as much training data as is held out."""
        return self.history.best - self._evaluate(self.data.first(len(self.held_out[0])))

    def _evaluate(self, data: tuple[Tensor, ...]) -> float:
        reseed(stream_seed(self.seed, 0, "held out"), self.device)
        return evaluate(self.model, self.loss, data, device=self.device)

    def _used(self) -> float:
        return self.budget.used(self.history.steps / self.per_epoch, self.history.seconds)

    # ---- checkpoints ------------------------------------------------------------------------

    def checkpoint(self, signature: dict[str, Any]) -> Checkpoint:
        """All that `restore` needs; ``signature`` says what is trained on what."""
        self._read()
        tensors = grouped(model=self.model.state_dict(), best=self.best, average=self.average)
        tensors |= self.descent.tensors()
        state = {
            "signature": signature,
            "history": dataclasses.asdict(self.history),
            "budget": dataclasses.asdict(self.budget),
            "decay": dataclasses.asdict(self.decay),
            "waited": self.waited,
            "limits": [self.schedule.max_epochs, self.schedule.minutes],
            "sum": self._sum,
            "guard": self.descent.guard.state(),
        }
        return Checkpoint(self.history.steps, tensors, state)

    def restore(self, checkpoint: Checkpoint, signature: dict[str, Any], place: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: it belongs to other settings or other data.
        """
        saved = checkpoint.state["signature"]
        for key in sorted(saved.keys() | signature.keys()):
            if saved.get(key) != signature.get(key):
                what = "other data" if key == "data" else f"{key} = {saved.get(key)!r}"
                raise InputError(
                    f"the training in {place} was started with {what}: set it back, choose another "
                    "folder, or start over with --no-resume (resume=False)"
                )
        groups = checkpoint.groups()
        self.model.load_state_dict(groups["model"])
        self.best = {k: v.to(self.device) for k, v in groups["best"].items()}
        # in the order of the parameters
        self.average = {k: groups["average"][k].to(self.device) for k in self.descent.parameters}
        self.descent.restore(groups["adamw"])
        state = checkpoint.state
        self.history, self.budget = History(**state["history"]), Budget(**state["budget"])
        self.decay = Decay(**state["decay"])
        self.waited, self._sum = state["waited"], state["sum"]
        self.descent.guard.load(state["guard"])
        if self.queued is not None:
            self.queued.load()
            self._captured = Captured(self._descend_queued)  # averages and moments moved
        if state["limits"] != [self.schedule.max_epochs, self.schedule.minutes]:
            self._lengthen()

    def _lengthen(self) -> None:
        """Go on under other limits of epochs and minutes: the learning rate stays high again."""
        if self.history.ended in (_NO_MORE_EPOCHS, _NO_MORE_TIME):
            self.history.ended = ""
        if not self.done:
            self.budget = Budget(self.schedule.max_epochs, self.schedule.minutes)
            self.waited = 0

    # ---- the whole of it ----------------------------------------------------------------------

    @torch.enable_grad()  # also where the caller needs none
    def run(
        self,
        *,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        signature: dict[str, Any] | None = None,
    ) -> History:
        """All steps; with a folder ``checkpoint`` it is saved now and then, and continued where it
        stopped, unless ``resume`` is False.

        Raises:
            InnverseError: the loss stays NaN or infinite.
            InputError: the checkpoint is damaged, or of another training.
            KeyboardInterrupt: Ctrl-C; with ``checkpoint`` all is saved first.
        """
        folder, newest, signature = None, None, signature or {}
        if checkpoint is not None:
            folder = Path(checkpoint)
            if not resume:
                remove_checkpoints(folder)
            newest = latest_checkpoint(folder)
            if newest is not None:
                self.restore(load_checkpoint(newest), signature, folder)
        history = self.history
        # of the budget, be it epochs or minutes, so that the time left is right for either
        with Progress("training", 100, start=self.percent, quiet=not progress) as bar:
            if newest is not None:
                bar.say(f"continuing after step {history.steps} (epoch {history.epochs})")
            saved = time.monotonic()
            with stop_requests() if folder else contextlib.nullcontext([]) as stop:
                note = ""
                while not self.done and not stop:
                    epochs = history.epochs
                    try:
                        self.step()
                    except KeyboardInterrupt:  # without a folder: what was best so far is kept
                        self.finish()
                        raise
                    if history.epochs > epochs:
                        note = (
                            f"epoch {history.epochs}, held-out loss {history.held_out[-1]:.3f} "
                            f"(best {history.best:.3f})"
                        )
                    bar(self.percent, note=note)
                    due = self.done or stop or time.monotonic() - saved > _SAVE_EVERY
                    if folder and due:
                        save_checkpoint(folder, self.checkpoint(signature), keep=1)
                        saved = time.monotonic()
            if not self.done:
                bar.say(f"stopped in epoch {history.epochs + 1}, saved; the same call continues")
                raise KeyboardInterrupt
            bar.say(
                f"trained {history.epochs} epochs in {history.seconds:.0f} s, held-out loss "
                f"{history.best:.3f}: {history.ended}"
                + (_LONGER if folder and history.ended in (_NO_MORE_EPOCHS, _NO_MORE_TIME) else "")
            )
        return self.finish()


def signature(data: Iterable[Tensor], schedule: Schedule, **settings: Any) -> dict[str, Any]:
    """What must be the same for a training to be continued, JSON-able; its limits may grow."""
    digest = hashlib.sha256()
    for t in data:
        digest.update(t.contiguous().cpu().numpy())
    fixed = dataclasses.asdict(schedule)
    for limit in ("max_epochs", "minutes"):
        del fixed[limit]
    return {"data": digest.hexdigest(), **fixed, **settings}


def evaluate(
    model: nn.Module,
    loss: Loss,
    data: tuple[Tensor, ...],
    chunk: int = 8192,
    device: torch.device | str | None = None,
) -> float:
    """The mean loss over ``data``, without gradient; infinite where it is not a number."""
    model.eval()
    total, n = 0.0, len(data[0])
    with torch.no_grad():
        for start in range(0, n, chunk):
            rows = [t[start : start + chunk].to(device) for t in data]
            total += float(loss(*rows).double().sum())
    return total / n if math.isfinite(total) else math.inf


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}
