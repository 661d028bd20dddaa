"""What the backward walk through a reversible chain carries along: anchors, gradients, drift."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class Tape:
    """Anchors laid on the way forward; gradients of parameters and condition on the way back."""

    def __init__(self, anchors: Iterable[Tensor] = (), autocast: tuple | None = None):
        self.anchors: list[Tensor] = list(anchors)
        self.gradients: dict[int, Tensor] = {}
        self.condition_gradient: Tensor | None = None
        self.drift: Tensor | None = None
        self._autocast = autocast

    def replace_by_anchor(self, x: Tensor) -> Tensor:
        """Exchange a reconstructed state for the exact one laid down on the way forward."""
        anchor = self.anchors.pop()
        self.measure(x, anchor)
        return anchor

    def measure(self, rebuilt: Tensor, exact: Tensor) -> None:
        """Remember the largest error of a reconstruction so far (absolute, state units)."""
        error = (rebuilt - exact).abs().max().detach()
        self.drift = error if self.drift is None else torch.maximum(self.drift, error)

    def recompute(self) -> contextlib.AbstractContextManager:
        """Gradients on, under the autocast state of the forward pass."""
        stack = contextlib.ExitStack()
        stack.enter_context(torch.enable_grad())
        if self._autocast is not None:
            device, dtype, enabled = self._autocast
            stack.enter_context(torch.autocast(device, dtype, enabled=enabled))
        return stack

    def pull_back(
        self,
        f: Callable,
        x: Tensor,
        g_z: Tensor,
        g_logdet: Tensor,
        c: Tensor | None,
        parameters: Iterable[Tensor],
    ) -> Tensor:
        """The vector-Jacobian product of ``(z, logdet) = f(x, c)`` at ``x``; returns g_x."""
        with self.recompute():
            x = x.detach().requires_grad_()
            z, logdet = f(x, c)
        return self.collect((z, logdet), (g_z, g_logdet), (x,), c, parameters)[0]

    def collect(self, outputs, gradients, inputs, c, parameters) -> list[Tensor]:
        """Gradients with respect to ``inputs``; those of parameters and condition are kept here."""
        params = [p for p in parameters if p.requires_grad]
        conditions = [c] if c is not None and c.requires_grad else []
        pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
        if not pairs:
            return [torch.zeros_like(x) for x in inputs]
        found = torch.autograd.grad(
            [o for o, _ in pairs],
            [*inputs, *conditions, *params],
            [g for _, g in pairs],
            allow_unused=True,
        )
        for p, g in zip(params, found[len(inputs) + len(conditions) :], strict=True):
            if g is not None:
                self.gradients[id(p)] = self.gradients[id(p)] + g if id(p) in self.gradients else g
        if conditions and found[len(inputs)] is not None:
            g = found[len(inputs)]
            seen = self.condition_gradient
            self.condition_gradient = g if seen is None else seen + g
        return [
            torch.zeros_like(x) if g is None else g
            for x, g in zip(inputs, found[: len(inputs)], strict=True)
        ]
