"""Steps that follow one another in a chain as one node of the graph, while parameters stay.

Solvers evaluate one flow hundreds of times. Of small pictures the kernels take less time than what
autograd does for each layer, so matrices and couplings in a row become one node. It knows the gradient
of x alone, and nobody wants another: that is what `constant_parameters` promises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import handwritten
from .autocast import without_autocast
from .constant import inputs_vary, promised, remember
from .coupling import Fused, is_fused
from .matrices import OfOneCondition, Steps, product
from .native import perceptron
from .native.memory import plain
from .plain import has_no_hooks

Pairs = Mapping[int, tuple[Tensor, Tensor]]  # W and b


def joined(
    chain: Any,
    direction: str,
    steps: Steps | OfOneCondition,
    matrices: Pairs,
    x: Tensor,
    c: Tensor | None,
) -> Sequence[Any] | None:
    """The ``steps`` of the chain in the order of ``direction``, joined where they can be: each a
    function of (x, c) that gives what follows and a log-determinant. ``matrices`` are W and b of steps,
    by index; their log-determinants are not counted here.

    None where parameters may change, or no kernel serves x.
    """
    if not (handwritten.applies() and promised() and plain(x)) or inputs_vary():
        return None
    if (c is not None and c.requires_grad) or not steps.are_kept():
        return None
    given = (c, x.dim(), x.shape[1:2], x.numel() > 0)
    return remember(chain, given, lambda: _join(direction, steps, matrices, x, c), direction)


def _join(
    direction: str, steps, matrices: Pairs, x: Tensor, c: Tensor | None
) -> Sequence[Any] | None:
    if not 2 <= x.dim() <= 5 or any(w.shape[-1] != x.shape[1] for w, _ in matrices.values()):
        return None  # the steps themselves say what is wrong
    found, run = [], []
    order = range(len(steps.all)) if direction == "forward" else reversed(range(len(steps.all)))
    for i in order:
        step = _Linear(*matrices[i]) if i in matrices else _coupling(direction, steps.all[i], x, c)
        if step is not None:
            run.append(step)
            continue
        found += [Joined(run)] if run else []
        found.append(_Alone(direction, steps.all[i]))
        run = []
    found += [Joined(run)] if run else []
    return found if len(found) < len(steps.all) else None


class _Alone:
    """A step of another kind."""

    def __init__(self, direction: str, step: Any):
        self.run = step if direction == "forward" else step.inverse

    def __call__(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.run(x, c)


class _Linear:
    """W x + b, of which the log-determinant is counted elsewhere."""

    kept = 0

    def __init__(self, w: Tensor, b: Tensor):
        self.w, self.b, self.w_t = w, b, w if w.dim() == 1 else w.mT.contiguous()
        self.zero = torch.zeros_like(b)

    def run(self, x: Tensor):
        return product(self.w, self.b, x), None

    formula = run

    def through(self, x: Tensor):
        return *self.run(x), ()

    def back(self, kept, g: Tensor, g_logdet: Tensor) -> Tensor:
        return product(self.w_t, self.zero, g)


class _Coupled:
    """A coupling, with the parameters of its network left alone."""

    def __init__(self, direction: str, found: Fused):
        self.direction, self.found = direction, found
        self.needed = [False] * len(found.tensors)
        self.signs = perceptron.signs_suffice(found.kind, self.needed)
        hidden = len(found.weights.sizes) - 2
        self.kept = 2 + hidden  # tensors that `through` keeps

    def run(self, x: Tensor):
        return getattr(self.found, self.direction)(x)

    def formula(self, x: Tensor):
        return self.found.formula(self.direction, x, self.found.condition, *self.found.tensors)

    def through(self, x: Tensor):
        return self.found.through(self.direction, x, self.found.condition, self.signs)

    def back(self, kept, g: Tensor, g_logdet: Tensor) -> Tensor:
        tensors, condition = self.found.tensors, self.found.condition
        given = kept, condition, tensors, g, g_logdet
        return self.found.back(self.direction, *given, self.needed, self.signs)[0]


def _coupling(direction: str, step: Any, x: Tensor, c: Tensor | None) -> _Coupled | None:
    # what redefines the direction, or has hooks, is called as a module
    if not is_fused(step, direction) or direction in vars(step) or not has_no_hooks(step):
        return None
    if (found := Fused.find(step, x, c)) is None:
        return None
    if direction == "inverse" and not hasattr(found.transform.kernel, "coupling_inverse_backward"):
        return None
    return _Coupled(direction, found)


class Joined:
    """Several steps as one: (x, c) -> (y, the sum of their log-determinants)."""

    def __init__(self, steps: Sequence[_Linear | _Coupled]):
        self.steps = steps

    def __call__(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled() and x.requires_grad:
            return _Node.apply(self, x)
        # the state of the flow keeps its precision whatever autocast the caller is under
        with without_autocast(x.device.type), torch.no_grad():
            return _sum([step.run for step in self.steps], x)

    def formula(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """In PyTorch's own operations."""
        return _sum([step.formula for step in self.steps], x)


def _sum(steps: Sequence[Any], x: Tensor) -> tuple[Tensor, Tensor]:
    total = x.new_zeros(len(x))
    for step in steps:
        x, logdet = step(x)
        total = total if logdet is None else total + logdet
    return x, total


class _Node(torch.autograd.Function):
    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, joined: Joined, x: Tensor):
        kept: list[Tensor] = []

        def keeping(through, y):
            y, logdet, some = through(y)
            kept.extend(some)
            return y, logdet

        y, total = _sum([partial(keeping, step.through) for step in joined.steps], x)
        ctx.joined = joined
        ctx.save_for_backward(x, *kept)
        return y, total

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, *gradients):
        joined, (x, *kept) = ctx.joined, ctx.saved_tensors
        if handwritten.wants_formula(*gradients):
            return None, *handwritten.exact(joined.formula, (x,), gradients, (True,))
        g, g_logdet = gradients
        for step in reversed(joined.steps):
            first = len(kept) - step.kept
            g = step.back(kept[first:], g, g_logdet)
            del kept[first:]
        return None, g
