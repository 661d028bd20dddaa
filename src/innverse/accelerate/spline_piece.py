"""Which piece of a rational-quadratic spline an element lies in, and what that piece is.

The parameters p (B, 3 bins - 1, C, ...) are widths, heights and derivatives before softmax and
softplus. Autograd would carry every intermediate of all the bins; the gradient by hand touches the
parameters once, since only one piece per element matters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import torch_private
from . import handwritten


def piece(p: Tensor, at: Tensor, spline, *, by_height: bool) -> tuple[Tensor, ...]:
    """(x0, w, y0, h, d0, d1) of the bin that holds ``at`` (B, C, ...), each in its shape.

    Left edge and width, lower edge and height, derivatives at both knots. ``at`` is on the x axis,
    or on the y axis with ``by_height``. ``spline`` has bins, bound, min_bin and min_derivative.
    """
    settings = spline.bins, spline.bound, spline.min_bin, spline.min_derivative, by_height
    if handwritten.applies():
        return _Piece.apply(p, at, settings)
    return (_walked if torch.compiler.is_compiling() else _formula)(p, at, settings)


def _walked(p, at, settings) -> tuple[Tensor, ...]:
    """`_formula`, knot by knot and element by element, which a compiler makes one kernel of."""
    k, bound, _min_bin, min_derivative, by_height = settings
    raw = p.unbind(1)
    w, h = _unbound_softmax(raw[:k]), _unbound_softmax(raw[k : 2 * k])
    w, h = [_fractions(t, settings) for t in w], [_fractions(t, settings) for t in h]
    one = torch.full_like(at, _one(min_derivative))
    derivatives = [torch.zeros_like(at), *raw[2 * k :], torch.zeros_like(at)]
    x0 = y0 = torch.full_like(at, -bound)
    left, low, size, rise, first, second = x0, y0, w[0], h[0], derivatives[0], derivatives[1]
    for j in range(1, k):
        x0, y0 = x0 + w[j - 1], y0 + h[j - 1]
        beyond = at >= (y0 if by_height else x0)
        here = x0, y0, w[j], h[j], derivatives[j], derivatives[j + 1]
        left, low, size, rise, first, second = (
            torch.where(beyond, a, b)
            for a, b in zip(here, (left, low, size, rise, first, second), strict=True)
        )
    d0, d1 = (min_derivative + F.softplus(d + one) for d in (first, second))
    return left, size, low, rise, d0, d1


def _unbound_softmax(raw: Sequence[Tensor]) -> list[Tensor]:
    most = functools.reduce(torch.maximum, raw).detach()
    parts = [(t - most).exp() for t in raw]
    total = functools.reduce(torch.add, parts)
    return [t / total for t in parts]


def _formula(p, at, settings) -> tuple[Tensor, ...]:
    k, bound, _min_bin, min_derivative, by_height = settings
    w = _fractions(p[:, :k].softmax(1), settings)
    h = _fractions(p[:, k : 2 * k].softmax(1), settings)
    xs, ys = _left_edges(w, bound), _left_edges(h, bound)
    d = min_derivative + F.softplus(p[:, 2 * k :] + _one(min_derivative))
    d = F.pad(d.movedim(1, -1), (1, 1), value=1.0).movedim(-1, 1)
    edges = ys if by_height else xs
    index = (at.unsqueeze(1) >= edges[:, 1:]).sum(1, keepdim=True).clamp_max(k - 1)
    pick = [t.gather(1, index).squeeze(1) for t in (xs, w, ys, h)]
    return *pick, d.gather(1, index).squeeze(1), d.gather(1, index + 1).squeeze(1)


def _fractions(softmax: Tensor, settings) -> Tensor:
    k, bound, min_bin, *_ = settings
    return (min_bin + (1 - min_bin * k) * softmax) * (2 * bound)


def _left_edges(w: Tensor, bound: float) -> Tensor:
    return F.pad(w.cumsum(1)[:, :-1].movedim(1, -1), (1, 0)).movedim(-1, 1) - bound


def _one(min_derivative: float) -> float:
    """What softplus maps to a derivative of 1, so that p = 0 is the identity."""
    return math.log(math.expm1(1 - min_derivative))


class _Piece(torch.autograd.Function):
    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, p, at, settings):
        k, bound, _, min_derivative, by_height = settings
        ctx.settings = settings
        soft_w, soft_h = p[:, :k].softmax(1), p[:, k : 2 * k].softmax(1)
        w, h = _fractions(soft_w, settings), _fractions(soft_h, settings)
        along, across = (h, w) if by_height else (w, h)
        # walk over the knots: few cheap passes over (B, C, ...) instead of (B, bins, C, ...)
        knot = torch.full_like(at, -bound)
        left, low, index = knot.clone(), knot.clone(), torch.zeros_like(at, dtype=torch.long)
        for j in range(k - 1):
            knot = knot + along[:, j]
            beyond = at >= knot
            left = torch.where(beyond, knot, left)
            low.addcmul_(across[:, j], beyond)
            index += beyond
        i = index.unsqueeze(1)
        size, rise = along.gather(1, i).squeeze(1), across.gather(1, i).squeeze(1)
        raw = p[:, 2 * k :]
        first = raw.gather(1, (i - 1).clamp_min_(0)).squeeze(1) + _one(min_derivative)
        second = raw.gather(1, i.clamp_max(k - 2)).squeeze(1) + _one(min_derivative)
        d0 = torch.where(index > 0, min_derivative + F.softplus(first), 1.0)
        d1 = torch.where(index < k - 1, min_derivative + F.softplus(second), 1.0)
        ctx.save_for_backward(p, at, soft_w, soft_h, index, first, second)
        if by_height:
            return low, rise, left, size, d0, d1
        return left, size, low, rise, d0, d1

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, g_x0, g_w, g_y0, g_h, g_d0, g_d1):
        p, at, soft_w, soft_h, index, first, second = ctx.saved_tensors
        gradients = g_x0, g_w, g_y0, g_h, g_d0, g_d1
        if handwritten.wants_formula(*gradients):
            formula = lambda p: _formula(p, at, ctx.settings)  # noqa: E731
            needed = ctx.needs_input_grad[:1]
            return *handwritten.exact(formula, (p,), gradients, needed), None, None
        k, bound, min_bin, *_ = ctx.settings
        i = index.unsqueeze(1)
        bins = torch.arange(k, device=p.device).view(1, k, *[1] * (p.dim() - 2))
        before, here = (bins < i).to(p.dtype), (bins == i).to(p.dtype)
        scale = (1 - min_bin * k) * (2 * bound)
        g_p = torch.empty_like(p)
        for part, soft, g_edge, g_size in ((0, soft_w, g_x0, g_w), (1, soft_h, g_y0, g_h)):
            g = torch.addcmul(before * g_edge.unsqueeze(1), here, g_size.unsqueeze(1)).mul_(scale)
            g_p[:, part * k : (part + 1) * k] = torch_private.softmax_backward(g, soft, 1)
        # softplus' = sigmoid; the outermost knots are fixed
        g_first = torch.where(index > 0, g_d0 * first.sigmoid(), 0.0).unsqueeze(1)
        g_second = torch.where(index < k - 1, g_d1 * second.sigmoid(), 0.0).unsqueeze(1)
        g_raw = g_p[:, 2 * k :].zero_()
        g_raw.scatter_add_(1, (i - 1).clamp_min_(0), g_first)
        g_raw.scatter_add_(1, i.clamp_max(k - 2), g_second)
        return g_p, None, None
