"""The channel-linear steps of a chain, evaluated together: one batch of matrices per kind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..constant import remember
from .base import Bijection
from .channel_linear import ChannelLinear, apply_matrix, can_keep, evaluate_together, kind
from .tape import Tape, parameters_of


class Matrices:
    """W, b and log|det W| of the steps whose matrices cannot be kept, by index in ``of``.

    ``logabsdet`` is the sum over those steps, None without any. Made with gradients on, `undo` walks
    back through a step and `collect` then sends what it gathered to the parameters, in one go.
    """

    def __init__(self, steps: Sequence[Bijection]):
        self.steps = steps
        kinds: dict[tuple, list[int]] = {}
        for i, step in enumerate(steps):
            if isinstance(step, ChannelLinear) and not step.can_cache():
                kinds.setdefault(kind(step), []).append(i)
        self.of, self._kinds, self._inverses = {}, list(kinds.values()), {}
        self.logabsdet: Tensor | float = 0.0
        for indices in kinds.values():
            found, logabsdet = evaluate_together([steps[i] for i in indices])
            self.of.update(zip(indices, found, strict=True))
            self.logabsdet = self.logabsdet + logabsdet
        self._gradients: dict[int, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def undo(self, i: int, z: Tensor, g_z: Tensor) -> tuple[Tensor, Tensor]:
        """From the output of step i and its gradient to those of its input."""
        w, b, _ = (t.detach() for t in self.of[i])
        if w.dim() == 1:
            x, g_x = apply_matrix(1 / w, -b / w, z), apply_matrix(w, torch.zeros_like(b), g_z)
            g_w = _per_channel(g_z * x)
        else:
            x = apply_matrix(*self._inverse(i), z)
            g_x = apply_matrix(w.T, torch.zeros_like(b), g_z)
            g_w = _rows(g_z).T @ _rows(x)
        self._gradients[i] = g_w, _per_channel(g_z)
        return x, g_x

    def _inverse(self, i: int) -> tuple[Tensor, Tensor]:
        """W^-1 and -W^-1 b of step i, made with those of all steps of its kind."""
        if i not in self._inverses:
            indices = next(indices for indices in self._kinds if i in indices)
            w = torch.stack([self.of[j][0].detach() for j in indices])
            b = torch.stack([self.of[j][1].detach() for j in indices])
            w_inv = torch.linalg.inv(w.double())
            b_inv = -(w_inv @ b.double().unsqueeze(-1)).squeeze(-1)
            pairs = zip(w_inv.to(w.dtype).unbind(), b_inv.to(b.dtype).unbind(), strict=True)
            self._inverses |= dict(zip(indices, pairs, strict=True))
        return self._inverses[i]

    def collect(self, g_logdet: Tensor, positions: int, tape: Tape) -> None:
        """The gradients of the parameters, from those of the matrices and of log|det|."""
        if not self.of:
            return
        outputs, gradients = [self.logabsdet], [g_logdet.sum() * positions]
        for i, (g_w, g_b) in self._gradients.items():
            w, b, _ = self.of[i]
            outputs += [w, b]
            gradients += [g_w.to(w.dtype), g_b.to(b.dtype)]
        parts = [part for i in self.of for part in self.steps[i].parts]
        parameters = [p for part in parts for p in parameters_of(part)]
        tape.collect(outputs, gradients, (), None, parameters)


class Kept:
    """The matrices of all channel-linear steps of a chain while nothing changes.

    As `ChannelLinear` keeps its own, but with one comparison of values for all of them.
    """

    def __init__(self):
        self._steps: tuple = ()
        self._values: Tensor | None = None
        self._of: dict[int, tuple] = {}

    def of(self, steps: Sequence[Bijection]) -> dict[int, tuple]:
        """By index, what `ChannelLinear.both_ways` gives; empty where nothing may be kept."""
        return remember(self, (steps,), lambda: self._look_up(steps))

    def _look_up(self, steps: Sequence[Bijection]) -> dict[int, tuple]:
        layers = {i: step for i, step in enumerate(steps) if isinstance(step, ChannelLinear)}
        parts = [part for step in layers.values() for part in step.parts]
        state = [t for part in parts for t in part.arguments()]
        if not layers or not can_keep(parts, state):
            return {}
        with torch.inference_mode(False), torch.no_grad():
            values = torch.cat([t.flatten() for t in state])
            if self._steps != steps or not self._same(values):
                self._of = {i: step.both_ways() for i, step in layers.items()}
                self._steps, self._values = steps, values
        return self._of

    def _same(self, values: Tensor) -> bool:
        kept = self._values
        alike = kept.dtype == values.dtype and kept.device == values.device
        return alike and torch.equal(kept, values)


def _rows(x: Tensor) -> Tensor:
    """(B, C, *space) as one row of C channels per position."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def _per_channel(x: Tensor) -> Tensor:
    return _rows(x).sum(0)
