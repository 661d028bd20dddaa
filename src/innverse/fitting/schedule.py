"""How long and how fast to train: a learning rate that needs no number of epochs beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import UsageError, unknown
from ..models.registry import fits
from ..showing.shown import Shown

_OVERFIT = 0.05  # nats between training and held-out pairs: more than chance makes of 10^4 of them
_CLEAR = 0.01  # nats: a progress that is not by chance


@dataclass(frozen=True)
class Schedule:
    """The learning rate warms up, stays, and falls to zero at the end of a budget.

    The fall begins when ``patience`` epochs brought no progress on the held-out pairs, and then
    takes half as many epochs as there were; or when two thirds of ``max_epochs`` or of
    ``minutes`` are over. Warm-up, stay and fall (Hägele et al. 2024, arXiv 2405.18392) reaches what
    a cosine reaches, without knowing its length.

    Before that fall, training goes on from the best state with another decay of the weights:
    ``heavy_decay`` if it fits the training pairs better than the held-out ones, else
    ``light_decay``; what is better on the held-out pairs is kept. A posterior near its prior wants
    the heavy one, a sharp one with many simulations the light one.

    Example:
        >>> Schedule(patience=5, minutes=2.0).warmup(per_epoch=10)
        50
    """

    lr: float = 1e-3
    batch_size: int | None = None
    patience: int = 20
    max_epochs: int = 1000
    minutes: float | None = None
    weight_decay: float = 0.1
    heavy_decay: float | None = 1.0
    light_decay: float | None = 1e-4
    averaged: float = 5.0
    """Epochs over which the weights are averaged."""

    def __post_init__(self):
        if not 0 < self.lr < math.inf:
            raise UsageError(f"lr={self.lr!r}: give a finite number above 0")
        if self.minutes is not None and not self.minutes > 0:
            raise UsageError(f"minutes={self.minutes!r}: give a number above 0, or None")
        for name in ("batch_size", "patience", "max_epochs"):
            value = getattr(self, name)
            if name == "batch_size" and value is None:
                continue
            if not (fits(value, int) and value >= 1):
                raise UsageError(f"{name}={value!r}: give a whole number above 0")

    def patience_for(self, per_epoch: int) -> int:
        """Epochs to wait: where an epoch is only a few steps, 20 of them would be no patience."""
        return max(self.patience, math.ceil(200 / per_epoch))

    def warmup(self, per_epoch: int) -> int:
        """Steps of the linear warm-up."""
        return min(100, 5 * per_epoch)


def schedule_of(*, weight_decay: float | None = None, **options: Any) -> Schedule:
    """A `Schedule`; ``weight_decay``, where it is given, stays, and no other is tried.

    Raises:
        UsageError: an option that it does not have, or a value that makes no sense.
    """
    if weight_decay is not None:
        options |= {"weight_decay": weight_decay, "heavy_decay": None, "light_decay": None}
    known = [f.name for f in fields(Schedule)]
    for name in options:
        if name not in known:
            raise unknown("option of the training", name, known)
    return Schedule(**options)


@dataclass
class Budget:
    """What is left of a training: fractions of epochs and minutes, and where the fall began."""

    epochs: int
    minutes: float | None
    fall_from: float = 2 / 3
    falling: bool = False

    def used(self, epochs: float, seconds: float) -> float:
        """The fraction 0..1 of the budget that is used up."""
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(epochs / self.epochs, by_time))

    def factor(self, used: float) -> float:
        """What the learning rate is multiplied with, 1 until the fall."""
        t = max(0.0, used - self.fall_from) / (1 - self.fall_from)
        return 1 - math.sqrt(t)

    def end_soon(self, epochs: int, used: float) -> None:
        """Let the fall begin now and take half as many epochs as there were."""
        self.epochs = min(self.epochs, epochs + max(epochs // 2, 2))
        self.fall_from = min(max(epochs / self.epochs, used), 1 - 1e-6)
        self.falling = True


@dataclass
class Decay:
    """Of the weights: what is in force, and a trial of another against the loss from before it."""

    now: float
    heavy: float | None
    light: float | None
    before: float | None = None  # the decay from before a trial, during it
    mark: float = math.inf

    @property
    def on_trial(self) -> bool:
        return self.before is not None

    @property
    def patience(self) -> int:
        """How much more of it a heavy one takes: the weights shrink first, and it all gets worse."""
        return 3 if self.before is not None and self.now > self.before else 1

    def begin_trial(self, best: float, gap: float) -> bool:
        """Of the heavy or the light one, as the ``gap`` of ``best``, the held-out loss, to that of
        the training pairs says; False if there is none or has been one."""
        other = self.heavy if gap > _OVERFIT else self.light
        self.heavy = self.light = None
        if other is not None:
            self.before, self.mark, self.now = self.now, best, other
        return other is not None

    def end_trial(self, best: float) -> None:
        """Keep what was tried if it has brought clear progress."""
        if self.before is not None and best > self.mark - _CLEAR:
            self.now = self.before
        self.before = self.heavy = self.light = None


@dataclass(repr=False)
class History(Shown):
    """What happened: the loss per epoch, on what is held out and on the training rows (the negative
    log-likelihood in nats, for flow matching its regression), and why it ended.

    Example:
        >>> flow = innverse.flows.build("realnvp", (2,), layers=2, width=8)
        >>> history = fit(flow, torch.randn(200, 2), max_epochs=2, progress=False)
        >>> len(history.held_out), history.best == min(history.held_out), history.ended
        (2, True, 'max_epochs')
    """

    held_out: list[float] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    best: float = math.inf
    epochs: int = 0
    steps: int = 0
    skipped: int = 0
    seconds: float = 0.0
    ended: str = ""

    def plot(self) -> Any:
        """A matplotlib figure of both losses per epoch.

        Raises:
            UsageError: no epoch has ended. InnverseError: matplotlib is not installed.
        """
        from ..showing.figures import of_history

        return of_history(self)

    def _card(self):
        from ..showing.history import card

        return card(self)
