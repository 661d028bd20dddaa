"""Maximum likelihood with early stopping on held-out pairs; stops and continues between any steps."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InnverseError, InputError
from ..train.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from ..train.interrupt import stop_requests
from ..train.progress import Progress
from ..train.randomness import generator, stream_seed
from .schedule import Budget, Decay, History, Schedule
from .size import choose_batch

Loss = Callable[..., Tensor]

_CLIP = 5.0  # of the gradient's norm
_MAX_BAD = 50  # refused steps in a row that end the training
_SAVE_EVERY = 30.0  # seconds between checkpoints
_AVERAGED = 5  # epochs over which the weights are averaged


class Training:
    """Minimises the mean of ``loss(*rows) -> (B,)`` over ``data``, one `step` after the other.

    What is judged on ``held_out``, and kept, is a moving average of the weights: the last steps
    alone carry the noise of their batches, and fit the training pairs too closely. `finish` leaves
    the average that was best in the model. Everything random is a function of seed and step, so a
    training that was interrupted goes on as if it had not been.

    Args:
        data, held_out: tensors of equal length; rows of a batch are handed to ``loss``.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: tuple[Tensor, ...],
        held_out: tuple[Tensor, ...],
        schedule: Schedule,
        seed: int = 0,
    ):
        self.model, self.loss, self.data, self.held_out = model, loss, data, held_out
        self.schedule, self.seed = schedule, seed
        n = len(data[0])
        self.batch = min(schedule.batch_size or choose_batch(n), n)
        self.per_epoch = max(n // self.batch, 1)
        self.named = {k: p for k, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.named.values(),
            schedule.lr,
            betas=(0.9, 0.98),
            weight_decay=schedule.weight_decay,
            fused=True,
        )
        self.history, self.budget = History(), Budget(schedule.max_epochs, schedule.minutes)
        self.decay = Decay(schedule.weight_decay, schedule.heavy_decay, schedule.light_decay)
        self.history.best = evaluate(model, loss, held_out)
        self.best = _copy(model)
        self.average = {k: p.detach().clone() for k, p in self.named.items()}
        self.waited = self.bad = 0
        self._shuffled: tuple[int, list[Tensor]] = (-1, [])

    @property
    def done(self) -> bool:
        return bool(self.history.ended)

    @property
    def percent(self) -> int:
        """How much of the budget is used; it jumps up once progress ends before that."""
        return round(100 * self._used())

    def step(self) -> None:
        """One batch; at the end of an epoch also the judgement of the held-out pairs."""
        begun, history = time.perf_counter(), self.history
        epoch, k = divmod(history.steps, self.per_epoch)
        used = self._used()
        warm = min(1.0, (history.steps + 1) / self.schedule.warmup(self.per_epoch))
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.lr * warm * self.budget.factor(used)
            group["weight_decay"] = self.decay.now
        # what a loss draws from the global generator is a function of the step as well; the CPU's
        # alone, since torch.manual_seed queues a call with its traceback for every absent device
        torch.default_generator.manual_seed(stream_seed(self.seed, history.steps, "loss"))
        if not self.model.training:  # it walks over all modules
            self.model.train()
        taken = self._descend([t[k * self.batch :][: self.batch] for t in self._epoch(epoch)])
        self.bad = 0 if taken else self.bad + 1
        history.skipped += not taken
        history.steps += 1
        if self.bad >= _MAX_BAD:
            raise InnverseError(
                f"the loss was NaN or infinite {self.bad} times in a row: look for extreme "
                "values in theta or x, or lower lr"
            )
        history.seconds += time.perf_counter() - begun
        if k + 1 == self.per_epoch or self._used() >= 1:
            self._judge()

    def finish(self) -> History:
        """Put the best state into the model.

        Raises:
            InnverseError: after no epoch the held-out loss was a finite number.
        """
        if self.history.held_out and not any(map(math.isfinite, self.history.held_out)):
            raise InnverseError(
                "the held-out loss was NaN or infinite after every epoch: nothing was learned; "
                "lower lr, and look for extreme values in theta or x"
            )
        self.model.load_state_dict(self.best)
        self.model.eval()
        return self.history

    def _descend(self, rows: list[Tensor]) -> bool:
        """A step against the gradient, unless it is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        value = self.loss(*rows).mean()
        if not math.isfinite(value.item()):
            return False
        value.backward()
        gradients = [p.grad for p in self.named.values() if p.grad is not None]
        norm = torch.stack(torch._foreach_norm(gradients)).norm().item()
        if not math.isfinite(norm):
            return False
        if norm > _CLIP:
            torch._foreach_mul_(gradients, _CLIP / norm)
        self.optimizer.step()
        # a plain mean at first, in which the start soon counts for nothing
        k = self.history.steps + 1
        weight = max(1 / (_AVERAGED * self.per_epoch), 9 / (9 + k))
        torch._foreach_lerp_(
            list(self.average.values()), [p.data for p in self.named.values()], weight
        )
        return True

    def _judge(self) -> None:
        """After an epoch: keep what is best, begin the fall of the learning rate, or end."""
        begun, history = time.perf_counter(), self.history
        latest = _copy(self.model)
        self.model.load_state_dict(latest | self.average)
        value = evaluate(self.model, self.loss, self.held_out)
        history.held_out.append(value)
        history.epochs += 1
        # the smallest progress that counts: a thousandth of a nat
        self.waited = 0 if value < history.best - 1e-3 else self.waited + 1
        if value < history.best:
            history.best, self.best = value, _copy(self.model)
        self.model.load_state_dict(latest)
        history.seconds += time.perf_counter() - begun
        used, patience = self._used(), self.schedule.patience_for(self.per_epoch)
        if used >= 1 and self.budget.epochs == self.schedule.max_epochs:
            history.ended = "max_epochs" if history.epochs >= self.budget.epochs else "time is up"
        elif used >= 1 or (self.budget.falling and self.waited >= patience):
            history.ended = "no more progress on held-out pairs"
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
        self.average = {k: p.detach().clone() for k, p in self.named.items()}
        self.waited = 0

    def _gap(self) -> float:
        """By how much the loss is lower on as many training pairs as are held out."""
        n = len(self.held_out[0])
        training = evaluate(self.model, self.loss, tuple(t[:n] for t in self.data))
        return self.history.best - training

    def _used(self) -> float:
        return self.budget.used(self.history.steps / self.per_epoch, self.history.seconds)

    def _epoch(self, epoch: int) -> list[Tensor]:
        """The data in the order of an epoch: shuffled once, so that batches are slices."""
        if self._shuffled[0] != epoch:
            order = torch.randperm(
                len(self.data[0]), generator=generator(self.seed, epoch, "order")
            )
            self._shuffled = epoch, [t[order] for t in self.data]
        return self._shuffled[1]

    # ---- checkpoints ------------------------------------------------------------------------

    def checkpoint(self, signature: dict[str, Any]) -> Checkpoint:
        """All that `restore` needs; ``signature`` says what is trained on what."""
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best/{k}": v for k, v in self.best.items()}
        tensors |= {f"average/{k}": v for k, v in self.average.items()}
        for name, p in self.named.items():
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f"adamw/{name}/{key}"] = value
        state = {
            "signature": signature,
            "history": dataclasses.asdict(self.history),
            "budget": dataclasses.asdict(self.budget),
            "decay": dataclasses.asdict(self.decay),
            "waited": self.waited,
            "bad": self.bad,
        }
        return Checkpoint(self.history.steps, tensors, state)

    def restore(self, checkpoint: Checkpoint, signature: dict[str, Any], place: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: it belongs to other settings or other simulations.
        """
        saved = checkpoint.state["signature"]
        for key in sorted(saved.keys() | signature.keys()):
            if saved.get(key) != signature.get(key):
                what = "other simulations" if key == "data" else f"{key} = {saved.get(key)!r}"
                raise InputError(
                    f"the training in {place} was begun with {what}: set it back, choose another "
                    "folder, or start over with --no-resume (resume=False)"
                )
        groups: dict[str, dict[str, Tensor]] = {
            kind: {} for kind in ("model", "best", "average", "adamw")
        }
        for name, tensor in checkpoint.tensors.items():
            kind, _, rest = name.partition("/")
            groups[kind][rest] = tensor
        self.model.load_state_dict(groups["model"])
        self.best = groups["best"]
        self.average = {k: groups["average"][k] for k in self.named}  # in the order of `named`
        for name, value in groups["adamw"].items():
            name, _, key = name.rpartition("/")
            self.optimizer.state[self.named[name]][key] = value
        state = checkpoint.state
        self.history, self.budget = History(**state["history"]), Budget(**state["budget"])
        self.decay = Decay(**state["decay"])
        self.waited, self.bad = state["waited"], state["bad"]


def train(
    model: nn.Module,
    loss: Loss,
    data: tuple[Tensor, ...],
    held_out: tuple[Tensor, ...],
    schedule: Schedule,
    *,
    seed: int = 0,
    progress: bool = True,
    folder: Path | None = None,
    signature: dict[str, Any] | None = None,
) -> History:
    """A whole `Training`; with ``folder`` it is saved now and then, and continued where it stopped.

    Raises:
        InnverseError: the loss stays NaN or infinite.
        InputError: the checkpoint in ``folder`` is damaged, or of another training.
        KeyboardInterrupt: Ctrl-C; with ``folder`` all is saved first.
    """
    training = Training(model, loss, data, held_out, schedule, seed)
    signature = signature or {}
    newest = latest_checkpoint(folder) if folder else None
    if newest is not None:
        training.restore(load_checkpoint(newest), signature, folder)
    history = training.history
    # of the budget, be it epochs or minutes, so that the time left is right for either
    with Progress(100, training.percent, quiet=not progress, unit="percent") as bar:
        if newest is not None:
            bar.say(f"continuing after step {history.steps} (epoch {history.epochs})")
        saved = time.monotonic()
        with stop_requests() if folder else contextlib.nullcontext([]) as stop:
            while not training.done and not stop:
                epochs = history.epochs
                training.step()
                if history.epochs > epochs:
                    note = (
                        f"epoch {history.epochs}, held-out loss {history.held_out[-1]:.3f} "
                        f"(best {history.best:.3f})"
                    )
                    bar.update(training.percent, note)
                due = training.done or stop or time.monotonic() - saved > _SAVE_EVERY
                if folder and due:
                    save_checkpoint(folder, training.checkpoint(signature), keep=1)
                    saved = time.monotonic()
        if not training.done:
            bar.say(f"stopped in epoch {history.epochs + 1}, saved; the same call continues")
            raise KeyboardInterrupt
        bar.say(
            f"trained {history.epochs} epochs in {history.seconds:.0f} s, held-out loss "
            f"{history.best:.3f}: {history.ended}"
        )
    return training.finish()


def evaluate(model: nn.Module, loss: Loss, data: tuple[Tensor, ...], chunk: int = 8192) -> float:
    """The mean loss over ``data``, without gradient; infinite where it is not a number."""
    model.eval()
    total, n = 0.0, len(data[0])
    with torch.no_grad():
        for start in range(0, n, chunk):
            total += float(loss(*(t[start : start + chunk] for t in data)).double().sum())
    return total / n if math.isfinite(total) else math.inf


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}
