"""How long and how fast to train: a learning rate that needs no number of epochs beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Schedule:
    """The learning rate warms up, stays, and falls to zero at the end of a budget.

    The fall begins when ``patience`` epochs brought no progress on the held-out pairs, and then
    takes half as many epochs as there were; or when two thirds of ``max_epochs`` or of
    ``minutes`` are over. Warm-up, stay and fall (Hägele et al. 2024, arXiv 2405.18392) reaches what
    a cosine reaches, without being told its length.
    """

    lr: float = 1e-3
    batch_size: int | None = None
    patience: int = 20
    max_epochs: int = 1000
    minutes: float | None = None
    weight_decay: float = 1e-4

    def patience_for(self, per_epoch: int) -> int:
        """Epochs to wait: where an epoch is only a few steps, 20 of them would be no patience."""
        return max(self.patience, math.ceil(200 / per_epoch))

    def warmup(self, per_epoch: int) -> int:
        """Steps of the linear warm-up."""
        return min(100, 5 * per_epoch)


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
