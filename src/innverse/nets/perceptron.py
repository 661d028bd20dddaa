"""A multilayer perceptron as one node of the graph, its gradient by hand, its products by oneDNN.

On processors where MKL has no fast path for float32 (AMD), oneDNN's products take half the time;
elsewhere they cost the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import handwritten, torch_private
from ..native import perceptron as native

_WORTH = 1 << 16  # multiplications below which a product is all overhead
_SHORT = 16  # and length of its sums


def perceptron(x: Tensor, activation: str, *tensors: Tensor) -> Tensor:
    """W_k act(... act(W_1 x + b_1) ...) + b_k; x (B, n), ``tensors`` = W_1, b_1, ..., W_k, b_k.

    ``activation`` is ``"relu"``, ``"silu"`` or ``"gelu"``.
    """
    kind = native.Kind(activation)
    if x.dim() == 2 and native.applies(x, kind, tensors):
        return native.apply(x, kind, *tensors)
    if handwritten.applies() and x.dim() == 2:
        return _Perceptron.apply(activation, x, *tensors)
    return _formula(activation, x, *tensors)[0]


def _formula(activation, x, *tensors) -> tuple[Tensor]:
    return (native.formula(native.Kind(activation), x, *tensors),)


class _Perceptron(torch.autograd.Function):
    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, activation, x, *tensors):
        act = getattr(F, activation)
        h, before, after = x.contiguous(), [], []
        for w, b in _pairs(tensors[:-2]):
            after.append(h)
            before.append(_product(h, w, b))
            h = act(before[-1])
        after.append(h)
        out = _product(h, *tensors[-2:])
        # ReLU's gradient can be read off its result: keep one of the two
        before = after[1:] if activation == "relu" else before
        ctx.activation, ctx.n = activation, len(tensors)
        ctx.save_for_backward(x, *tensors, *after, *before)
        return out

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, g):
        x, *rest = ctx.saved_tensors
        tensors, kept = rest[: ctx.n], rest[ctx.n :]
        need = ctx.needs_input_grad[1:]
        if handwritten.wants_formula(g):
            formula = lambda *t: _formula(ctx.activation, *t)  # noqa: E731
            return None, *handwritten.exact(formula, (x, *tensors), (g,), need)
        depth = ctx.n // 2
        after, before = kept[:depth], kept[depth:]
        found: list[Tensor | None] = [None] * ctx.n
        g = g.contiguous()
        for i in reversed(range(depth)):
            if need[2 * i + 1]:
                found[2 * i] = _outer(g, after[i])
            if need[2 * i + 2]:
                found[2 * i + 1] = g.sum(0)
            if i > 0:
                g = _through(ctx.activation, _product(g, tensors[2 * i].T), before[i - 1])
        return None, _product(g, tensors[0].T) if need[0] else None, *found


def _pairs(tensors):
    return zip(tensors[::2], tensors[1::2], strict=True)


def _through(activation: str, g: Tensor, h: Tensor) -> Tensor:
    """The gradient through an activation; may be written over ``g``."""
    if activation == "relu":
        return torch_private.relu_backward_(g, h)
    if activation == "silu":
        return torch_private.silu_backward(g, h)
    return torch_private.gelu_backward(g, h)


def _outer(g: Tensor, x: Tensor) -> Tensor:
    """g^T x; from a much longer g, the transpose is made instead, which oneDNN does faster."""
    return _product(g.T, x.T) if g.shape[1] < 4 * x.shape[1] else _product(x.T, g.T).T


def _product(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """x W^T + b."""
    if (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and x.dim() == 2
        and x.shape[0] * w.numel() >= _WORTH
        and x.shape[1] >= _SHORT
    ):
        return torch_private.linear(x, w, b)
    return F.linear(x, w, b)
