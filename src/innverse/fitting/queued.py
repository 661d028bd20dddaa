"""Descents and guards whose decisions are made on the device, so that no step waits to be read."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from .. import torch_private
from .descent import Descent
from .guard import LOSS_FAR, LOSS_LOST, NORM_FAR, NORM_LOST, Guard, words

NUMBERS = 4  # that describe a step: loss, gradient norm, reason, usual


class QueuedGuard:
    """What a `Guard` is, with its memory on a device: it judges numbers that nobody has read.

    Example:
        >>> from innverse.fitting.guard import Guard
        >>> from innverse.fitting.queued import QueuedGuard
        >>> guard = QueuedGuard(Guard(), torch.device("cpu"))
        >>> reason, usual = guard.judge(torch.tensor(torch.nan), torch.tensor(1.0))
        >>> int(reason), guard.read().skipped
        (1, 1)
    """

    def __init__(self, guard: Guard, device: torch.device):
        self.guard, window = guard, guard.losses.maxlen or 0
        # rows: gradient norms, losses
        self._ring = torch.full((2, window), math.inf, dtype=torch.float64, device=device)
        self._places = torch.arange(window, device=device)
        # seen with finite numbers, refused, of those in a row, and of those the lost ones
        self._counts = torch.zeros(4, dtype=torch.int64, device=device)
        self.load()

    def load(self) -> None:
        """Take the state of the `Guard`."""
        guard = self.guard
        for row, numbers in zip(self._ring, (guard.norms, guard.losses), strict=True):
            known = torch.tensor([*numbers], dtype=torch.float64)
            row.fill_(math.inf)[: len(known)] = known.to(row.device)
        counts = [len(guard.norms), guard.skipped, guard.in_a_row, guard.lost]
        self._counts.copy_(torch.tensor(counts))

    def read(self) -> Guard:
        """The `Guard` in the same state; waits for the device."""
        guard = self.guard
        norms, losses = self._ring.tolist()
        seen, guard.skipped, guard.in_a_row, guard.lost = self._counts.tolist()
        for memory, ring in ((guard.norms, norms), (guard.losses, losses)):
            memory.clear()
            start = seen % len(ring) if seen > len(ring) else 0
            memory.extend((ring[start:] + ring[:start])[: min(seen, len(ring))])
        return guard

    def judge(self, loss: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
        """The reason to refuse this step, or 0 to take it, and the median that counted; both ()."""
        guard, window = self.guard, self._ring.shape[1]
        seen, skipped, in_a_row, lost = self._counts.unbind()
        numbers = torch.stack((norm, loss)).double()
        finite = numbers.isfinite()
        both = finite.all()
        n = seen.clamp_max(window)
        ordered = self._ring.sort(1).values
        middle = torch.stack(((n - 1) // 2, n // 2)).clamp(0, window - 1)
        usual = ordered.gather(1, middle.expand(2, 2)).mean(1)
        limit = torch.stack((guard.factor * usual[0], usual[1] + guard.jump))
        far = (numbers > limit) & (n >= guard.warm)
        reason = torch.zeros_like(seen)
        for number, holds in (
            (LOSS_FAR, far[1]), (NORM_FAR, far[0]), (NORM_LOST, ~finite[0]), (LOSS_LOST, ~finite[1]),
        ):  # fmt: skip
            reason = torch.where(holds, number, reason)
        taken = reason == 0
        here = (self._places == seen % window) & both
        self._ring.copy_(torch.where(here, numbers[:, None], self._ring))
        self._counts.copy_(
            torch.stack(
                (
                    seen + both,
                    skipped + ~taken,
                    torch.where(taken, 0, in_a_row + 1),
                    torch.where(both, 0, lost + 1),
                )
            )
        )
        return reason, torch.where(reason == NORM_FAR, usual[0], usual[1])


class QueuedDescent:
    """The steps of a `Descent`, of a device that runs ahead of Python; all of it can be captured.

    Its `Descent` has the state of the guard after `read`.
    """

    def __init__(self, descent: Descent):
        self.descent = descent
        self.device = next(iter(descent.parameters.values())).device
        self.guard = QueuedGuard(descent.guard, self.device)
        for group in descent.optimizer.param_groups:
            group["capturable"] = True

    def load(self) -> None:
        """Take the state of the `Descent`, which was restored."""
        self.guard.load()

    def read(self, n: int, reason: str | None = None) -> None:
        """Bring the `Descent` up to date; ``n`` counts the steps of the run.

        Raises:
            NotConvergedError: too many steps in a row were refused.
        """
        self.guard.read()
        self.descent.end_if_stuck(n, reason)

    def step(
        self, loss: Tensor, judged: Tensor, lr: Tensor, weight_decay: float | None = None
    ) -> Tensor:
        """Move along the gradient of ``loss``, unless the guard refuses the number ``judged``.

        Everything, ``lr`` too, is (), on the device. Returns `NUMBERS`, float64: the number judged, the
        norm of the gradient, the reason (0: taken) and the median that counted.
        """
        descent = self.descent
        optimizer = descent.optimizer
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [p.grad for p in descent.parameters.values() if p.grad is not None]
        norm = torch.stack(torch_private.norms(gradients)).norm()
        reason, usual = self.guard.judge(judged.detach(), norm)
        torch_private.scale_(gradients, (descent.clip / norm).clamp(max=1.0))
        for group in optimizer.param_groups:
            group["lr"] = lr
            if weight_decay is not None:
                group["weight_decay"] = weight_decay
        torch_private.step_unless(optimizer, reason != 0)
        return torch.stack([t.double() for t in (judged.detach(), norm, reason, usual)])


def average_queued_(
    mean: Iterable[Tensor], now: Iterable[Tensor], weight: Tensor, numbers: Tensor
) -> None:
    """`average_` with a weight that stands on the device, after a step that gave ``numbers``."""
    weight = torch.where(numbers[2] == 0, weight, torch.zeros_like(weight))
    torch_private.move_towards_(list(mean), [t.detach() for t in now], weight)


def in_words(numbers: list[float]) -> str | None:
    """Why a step was refused, from the numbers that `QueuedDescent.step` gave; None if it was not."""
    loss, norm, reason, usual = numbers
    return words(int(reason), loss, norm, usual)
