"""What the backward walk through a reversible chain carries along: anchors, gradients, drift."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .autocast import autocast_dtype, with_autocast


def parameters_of(module: Any) -> list[Tensor]:
    """``module.parameters()`` in no order, and many times as fast: deep chains ask at every layer."""
    found, left = {}, [module]
    while left:
        module = left.pop()
        # the replicas of DataParallel keep their parameters elsewhere
        here = getattr(module, "_former_parameters", None) or module._parameters
        found |= {id(p): p for p in here.values() if p is not None}
        left += filter(None, module._modules.values())
    return list(found.values())


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
        if self._autocast is None or self._autocast[1] == autocast_dtype(self._autocast[0]):
            return torch.enable_grad()
        stack = contextlib.ExitStack()
        stack.enter_context(torch.enable_grad())
        stack.enter_context(with_autocast(*self._autocast))
        return stack

    def vjp(
        self,
        f: Callable,
        x: Tensor,
        g_z: Tensor,
        g_logdet: Tensor,
        c: Tensor | None,
        parameters: nn.Module | Iterable[Tensor],
    ) -> Tensor:
        """The vector-Jacobian product of ``(z, logdet) = f(x, c)`` at ``x``; returns g_x."""
        with self.recompute():
            x = x.detach().requires_grad_()
            z, logdet = f(x, c)
        return self.collect((z, logdet), (g_z, g_logdet), (x,), c, parameters)[0]

    def collect(
        self, outputs, gradients, inputs, c, parameters: nn.Module | Iterable[Tensor]
    ) -> list[Tensor]:
        """Gradients with respect to ``inputs``; those of parameters and condition are kept here.

        ``parameters`` is a module or what may need a gradient among the leaves of the graph.
        """
        conditions = [c] if c is not None and c.requires_grad else []
        outputs, gradients = self._keep_leaves(outputs, gradients, c)
        if not outputs:
            return [torch.zeros_like(x) for x in inputs]
        if isinstance(parameters, nn.Module):
            parameters = parameters_of(parameters)
        params = [p for p in parameters if p.requires_grad]
        found = torch.autograd.grad(
            outputs, [*inputs, *conditions, *params], gradients, allow_unused=True
        )
        for p, g in zip(params, found[len(inputs) + len(conditions) :], strict=True):
            if g is not None:
                self._add(p, g)
        if conditions and found[len(inputs)] is not None:
            g = found[len(inputs)]
            seen = self.condition_gradient
            self.condition_gradient = g if seen is None else seen + g
        return [
            torch.zeros_like(x) if g is None else g
            for x, g in zip(inputs, found[: len(inputs)], strict=True)
        ]

    def _keep_leaves(self, outputs, gradients, c) -> tuple[list[Tensor], list[Tensor]]:
        """Keep the gradients of outputs that are parameters themselves; the others, for the graph."""
        left = []
        for o, g in zip(outputs, gradients, strict=True):
            if isinstance(o, nn.Parameter) and o.is_leaf and o is not c and o.requires_grad:
                self._add(o, g)
            elif o.requires_grad:
                left.append((o, g))
        return [o for o, _ in left], [g for _, g in left]

    def _add(self, parameter: Tensor, g: Tensor) -> None:
        seen = self.gradients.get(id(parameter))
        self.gradients[id(parameter)] = g if seen is None else seen + g
