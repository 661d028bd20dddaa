"""Glow's network, 3x3 - 1x1 - 3x3 convolutions with ReLU, as one node with its gradient by hand.

It does what autograd would do, without the copies: gradients are masked in place, everything stays
in channels_last, and biases take a plain sum.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import handwritten, torch_private

_CL = torch.channels_last


def three_convolutions(x, w1, b1, w2, b2, w3, b3, log_gain) -> Tensor:
    """exp(log_gain) * (W3 * relu(W2 * relu(W1 * x + b1) + b2) + b3); x (B, C, H, W)."""
    tensors = (x, w1, b1, w2, b2, w3, b3, log_gain)
    if handwritten.applies():
        return _ThreeConvolutions.apply(*tensors)
    return _formula(*tensors)[0]


def _formula(x, w1, b1, w2, b2, w3, b3, log_gain) -> tuple[Tensor]:
    h = F.conv2d(x, w1, b1, padding=1).relu()
    h = F.conv2d(h, w2, b2).relu()
    gain = log_gain.exp()
    return (F.conv2d(h, w3 * gain.view(-1, 1, 1, 1), b3 * gain, padding=1),)


class _ThreeConvolutions(torch.autograd.Function):
    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, x, w1, b1, w2, b2, w3, b3, log_gain):
        dense = x.contiguous(memory_format=_CL)
        h1 = _conv_relu(dense, w1, b1, 1)
        h2 = _conv_relu(h1, w2, b2, 0)
        gain = log_gain.exp()
        w = w3 * gain.view(-1, 1, 1, 1)
        ctx.save_for_backward(x, w1, b1, w2, b2, w3, b3, log_gain, dense, h1, h2, gain, w)
        return F.conv2d(h2, w, b3 * gain, padding=1)

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, g):
        *inputs, dense, h1, h2, gain, w = ctx.saved_tensors
        need = ctx.needs_input_grad
        if handwritten.wants_formula(g):
            return tuple(handwritten.exact(_formula, inputs, (g,), need))
        _, w1, _, w2, _, w3, b3, _ = inputs
        g = g.contiguous(memory_format=_CL)
        g, g_w3, g_b3 = _conv_backward(g, h2, w, 1, (True, need[5] or need[7], need[6] or need[7]))
        g_gain = None
        if need[7]:
            g_gain = gain * ((g_w3 * w3).sum((1, 2, 3)) + g_b3 * b3)
        g_w3 = g_w3 * gain.view(-1, 1, 1, 1) if need[5] else None
        g_b3 = g_b3 * gain if need[6] else None
        g, g_w2, g_b2 = _conv_backward(_mask_(g, h2), h1, w2, 0, (True, need[3], need[4]))
        g_x, g_w1, g_b1 = _conv_backward(_mask_(g, h1), dense, w1, 1, need[:3])
        return g_x, g_w1, g_b1, g_w2, g_b2, g_w3, g_b3, g_gain


def _conv_relu(x: Tensor, w: Tensor, b: Tensor, padding: int) -> Tensor:
    return F.conv2d(x, w, b, padding=padding).relu_()


def _mask_(g: Tensor, h: Tensor) -> Tensor:
    """The gradient through ReLU, written over ``g``."""
    return torch_private.relu_backward_(g, h)


def _conv_backward(g: Tensor, x: Tensor, w: Tensor, padding: int, need) -> tuple:
    g_x, g_w = torch_private.conv2d_backward(g, x, w, padding, need[0], need[1])
    # oneDNN would sum for the bias while it computes g_w, slower than a sum of its own
    return g_x, g_w, g.permute(0, 2, 3, 1).flatten(0, 2).sum(0) if need[2] else None
