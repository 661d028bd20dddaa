"""The rational-quadratic spline in C++ as a node of the graph."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...shapes import wide
from .. import handwritten
from ..split import Split
from .build import fields, functions
from .memory import address, plain

_MAX_BINS = 32


class _Settings(ctypes.Structure):
    """`struct Spline` of spline.cpp."""

    _fields_ = fields(int64="batch inner", int="bins", float="bound min_bin min_derivative one")


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


def by_kernel(formula: Callable) -> Callable:
    """``forward`` or ``inverse`` of a `RationalQuadraticSpline`, (x, p) -> (z, log dz/dx), by the
    kernel where it serves; differentiable, and twice by the ``formula``, which is the definition."""

    @functools.wraps(formula)
    def run(transform, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        if applies(x, p, transform.bins):
            return _Map.apply(x, p, transform, formula)
        return formula(transform, x, p)

    return run


@functools.cache
def _library() -> ctypes.CDLL | None:
    pointers = {"forward": 4, "inverse": 4, "backward": 6}
    first = [ctypes.c_void_p, ctypes.c_int32]  # settings and threads
    return functions("spline", {f: first + [ctypes.c_void_p] * n for f, n in pointers.items()})


def available(transform) -> bool:
    """Whether the kernel serves ``transform`` on this machine."""
    return transform.bins <= _MAX_BINS and _library() is not None


def coupling_forward(transform, split: Split, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """(z, logdet) of a coupling, as in `innverse.native.affine`."""
    return _coupling("spline_forward", transform, split, x, p)


def coupling_inverse(transform, split: Split, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """(x, logdet)."""
    return _coupling("spline_inverse", transform, split, z, p)


def coupling_backward(transform, split: Split, x: Tensor, p: Tensor, g_z: Tensor, g_logdet: Tensor):
    """(g_x, g_p) of `coupling_forward`."""
    a, b = (t.contiguous() for t in split.apart(g_z))
    mapped, p = split.apart(x)[1].contiguous(), _parameters(transform, p)
    g_log = wide(g_logdet, b).expand_as(b).contiguous()
    g_b, g_p = torch.empty_like(b), torch.empty_like(p)
    _call("spline_backward", transform, mapped, p, b, g_log, g_b, g_p)
    return split.merge(a, g_b), g_p.flatten(1, 2)


def _coupling(name: str, transform, split: Split, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    a, b = split.apart(x)
    b = b.contiguous()
    out, log_derivative = torch.empty_like(b), torch.empty_like(b)
    _call(name, transform, b, _parameters(transform, p), out, log_derivative)
    return split.merge(a, out), log_derivative.flatten(1).sum(1)


def _parameters(transform, p: Tensor) -> Tensor:
    return p.unflatten(1, (transform.n_params, -1)).contiguous()


def _call(name: str, transform, x: Tensor, *tensors: Tensor) -> None:
    """Run a kernel; all tensors are dense, stay alive until it returns, and have the shape of x, or
    where they are parameters (or their gradient), one axis more."""
    one = math.log(math.expm1(1 - transform.min_derivative))
    t = transform
    numbers = t.bins, t.bound, t.min_bin, t.min_derivative, one
    settings = _Settings(x.shape[0], math.prod(x.shape[1:]), *numbers)
    shape, of_p = tuple(x.shape), (x.shape[0], 3 * transform.bins - 1, *x.shape[1:])
    pointers = [
        address(t, of_p if t.dim() > x.dim() else shape, channels_last=False) for t in (x, *tensors)
    ]
    getattr(_library(), name)(ctypes.byref(settings), torch.get_num_threads(), *pointers)


class _Map(torch.autograd.Function):
    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, x, p, transform, formula):
        ctx.save_for_backward(x, p)  # as they came: a second derivative goes through them
        ctx.transform, ctx.formula = transform, formula
        x, p = x.contiguous(), p.contiguous()
        z, log_derivative = torch.empty_like(x), torch.empty_like(x)
        _call(f"spline_{formula.__name__}", transform, x, p, z, log_derivative)
        return z, log_derivative

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, g_z, g_l):
        x, p = ctx.saved_tensors
        if ctx.formula.__name__ == "inverse" or handwritten.wants_formula(g_z, g_l):
            formula, needed = functools.partial(ctx.formula, ctx.transform), ctx.needs_input_grad
            return *handwritten.exact(formula, (x, p), (g_z, g_l), needed[:2]), None, None
        x, p = x.contiguous(), p.contiguous()
        g_x, g_p = torch.empty_like(x), torch.empty_like(p)
        _call("spline_backward", ctx.transform, x, p, g_z.contiguous(), g_l.contiguous(), g_x, g_p)
        return g_x, g_p, None, None
