"""The rational-quadratic spline in C++ as a node of the graph."""

from __future__ import annotations

import ctypes
import functools
import math

import torch
from torch import Tensor

from .. import handwritten
from .build import Unavailable, load
from .memory import address, plain
from .split import Split

_MAX_BINS = 32


class _Settings(ctypes.Structure):
    """`struct Spline` of spline.cpp."""

    _fields_ = (
        ("batch", ctypes.c_int64),
        ("inner", ctypes.c_int64),
        ("bins", ctypes.c_int),
        ("bound", ctypes.c_float),
        ("min_bin", ctypes.c_float),
        ("min_derivative", ctypes.c_float),
        ("one", ctypes.c_float),
    )


def applies(x: Tensor, p: Tensor, bins: int) -> bool:
    """True where the kernel serves x (B, C, ...) and p (B, 3 bins - 1, C, ...)."""
    return (
        handwritten.applies()
        and plain(x, p)
        and x.dim() >= 2
        and p.shape == (x.shape[0], 3 * bins - 1, *x.shape[1:])
        and bins <= _MAX_BINS
        and x.numel() > 0
        and _library() is not None
    )


def forward(x: Tensor, p: Tensor, map) -> tuple[Tensor, Tensor]:
    """(z, log dz/dx) of a `RationalQuadraticSpline`; differentiable, twice by its formula."""
    return _Forward.apply(x, p, map)


def inverse(z: Tensor, p: Tensor, map) -> tuple[Tensor, Tensor]:
    """(x, log dx/dz); differentiable likewise."""
    return _Inverse.apply(z, p, map)


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        return load("spline")
    except Unavailable:
        return None


def available(map) -> bool:
    """Whether the kernel serves ``map`` on this machine."""
    return map.bins <= _MAX_BINS and _library() is not None


def coupling_forward(map, split: Split, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """(z, logdet) of a coupling, as in `innverse.native.affine`."""
    return _coupling("spline_forward", map, split, x, p)


def coupling_inverse(map, split: Split, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """(x, logdet)."""
    return _coupling("spline_inverse", map, split, z, p)


def coupling_backward(map, split: Split, x: Tensor, p: Tensor, g_z: Tensor, g_logdet: Tensor):
    """(g_x, g_p) of `coupling_forward`."""
    a, b = (t.contiguous() for t in split.apart(g_z))
    mapped, p = split.apart(x)[1].contiguous(), _parameters(map, p)
    g_log = g_logdet.view(-1, *[1] * (b.dim() - 1)).expand_as(b).contiguous()
    g_b, g_p = torch.empty_like(b), torch.empty_like(p)
    _call("spline_backward", map, mapped, p, b, g_log, g_b, g_p)
    return split.merge(a, g_b), g_p.flatten(1, 2)


def _coupling(name: str, map, split: Split, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    a, b = split.apart(x)
    b = b.contiguous()
    out, log_derivative = torch.empty_like(b), torch.empty_like(b)
    _call(name, map, b, _parameters(map, p), out, log_derivative)
    return split.merge(a, out), log_derivative.flatten(1).sum(1)


def _parameters(map, p: Tensor) -> Tensor:
    return p.unflatten(1, (map.n_params, -1)).contiguous()


def _call(name: str, map, x: Tensor, *tensors: Tensor) -> None:
    """Run a kernel; all tensors are dense, stay alive until it returns, and have the shape of x, or
    where they are parameters (or their gradient), one axis more."""
    one = math.log(math.expm1(1 - map.min_derivative))
    inner = x.shape[1:].numel()
    settings = _Settings(
        x.shape[0], inner, map.bins, map.bound, map.min_bin, map.min_derivative, one
    )
    shape, of_p = tuple(x.shape), (x.shape[0], 3 * map.bins - 1, *x.shape[1:])
    pointers = (
        ctypes.c_void_p(address(t, of_p if t.dim() > x.dim() else shape, channels_last=False))
        for t in (x, *tensors)
    )
    getattr(_library(), name)(ctypes.byref(settings), torch.get_num_threads(), *pointers)


class _Forward(torch.autograd.Function):
    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, x, p, map):
        ctx.save_for_backward(x, p)  # as they came: a second derivative goes through them
        ctx.map = map
        x, p = x.contiguous(), p.contiguous()
        z, log_derivative = torch.empty_like(x), torch.empty_like(x)
        _call("spline_forward", map, x, p, z, log_derivative)
        return z, log_derivative

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, g_z, g_l):
        x, p = ctx.saved_tensors
        if handwritten.wants_formula(g_z, g_l):
            needed = ctx.needs_input_grad[:2]
            return *handwritten.exact(ctx.map.forward_formula, (x, p), (g_z, g_l), needed), None
        x, p = x.contiguous(), p.contiguous()
        g_x, g_p = torch.empty_like(x), torch.empty_like(p)
        _call("spline_backward", ctx.map, x, p, g_z.contiguous(), g_l.contiguous(), g_x, g_p)
        return g_x, g_p, None


class _Inverse(torch.autograd.Function):
    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, z, p, map):
        ctx.save_for_backward(z, p)
        ctx.map = map
        z, p = z.contiguous(), p.contiguous()
        x, log_derivative = torch.empty_like(z), torch.empty_like(z)
        _call("spline_inverse", map, z, p, x, log_derivative)
        return x, log_derivative

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, g_x, g_l):
        formula, needed = ctx.map.inverse_formula, ctx.needs_input_grad[:2]
        return *handwritten.exact(formula, ctx.saved_tensors, (g_x, g_l), needed), None
