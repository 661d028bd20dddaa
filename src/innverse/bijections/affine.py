"""z = x exp(s) + t with a bounded s, and its gradient in half the passes over memory."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import handwritten
from .bounded import soft_bound


def affine(x: Tensor, p: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """(z, s) for s = soft_bound(p[:, 0]) and t = p[:, 1]; x (B, C, ...), p (B, 2, C, ...)."""
    return (_Affine.apply if handwritten.applies() else _affine)(x, p, bound)


def affine_inverse(z: Tensor, p: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """(x, -s) of the same."""
    return (_AffineInverse.apply if handwritten.applies() else _affine_inverse)(z, p, bound)


def _affine(x, p, bound):
    s = soft_bound(p[:, 0], bound)
    return torch.addcmul(p[:, 1], x, s.exp()), s


def _affine_inverse(z, p, bound):
    s = -soft_bound(p[:, 0], bound)
    return (z - p[:, 1]) * s.exp(), s


class _Affine(torch.autograd.Function):
    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, x, p, bound):
        s, slope = _bounded_and_slope(p[:, 0], bound)
        scale = s.exp()
        ctx.save_for_backward(x, p, scale, slope)
        ctx.bound = bound
        return torch.addcmul(p[:, 1], x, scale), s

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, g_z, g_s):
        x, p, scale, slope = ctx.saved_tensors
        if handwritten.wants_formula(g_z, g_s):
            return *_exact(_affine, ctx, (x, p), (g_z, g_s)), None
        g_x = g_z * scale
        g_p = torch.empty_like(p)
        g_p[:, 1] = g_z
        torch.mul(torch.addcmul(g_s, g_x, x), slope, out=g_p[:, 0])
        return g_x, g_p, None


class _AffineInverse(torch.autograd.Function):
    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, z, p, bound):
        s, slope = _bounded_and_slope(p[:, 0], bound)
        s.neg_()
        scale = s.exp()
        x = (z - p[:, 1]).mul_(scale)
        ctx.save_for_backward(z, p, x, scale, slope)
        ctx.bound = bound
        return x, s

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, g_x, g_s):
        z, p, x, scale, slope = ctx.saved_tensors
        if handwritten.wants_formula(g_x, g_s):
            return *_exact(_affine_inverse, ctx, (z, p), (g_x, g_s)), None
        g_z = g_x * scale
        g_p = torch.empty_like(p)
        torch.neg(g_z, out=g_p[:, 1])
        torch.mul(torch.addcmul(g_s, g_x, x).neg_(), slope, out=g_p[:, 0])
        return g_z, g_p, None


def _exact(formula, ctx, inputs, gradients):
    needed = ctx.needs_input_grad[:2]
    return handwritten.exact(lambda x, p: formula(x, p, ctx.bound), inputs, gradients, needed)


def _bounded_and_slope(u: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """soft_bound(u) = u r with r = (1 + (u / bound)^2)^(-1/2), and its derivative r^3."""
    r = torch.addcmul(torch.ones((), dtype=u.dtype, device=u.device), u, u, value=bound**-2)
    r.rsqrt_()
    return u * r, r.pow(3)
