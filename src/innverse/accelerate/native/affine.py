"""The affine coupling in C++: scale, shift, merge and log-determinant in one pass over memory.

x and z are dense (B, C, ...) as `memory.dense` makes them, p (B, 2 m, ...) likewise for the m
mapped channels of ``split``; log-determinants are (B,).
"""

from __future__ import annotations

import ctypes
import functools
import math

import torch
from torch import Tensor

from ..split import Split
from .build import fields, functions
from .memory import address


class _Settings(ctypes.Structure):
    """`struct Affine` of affine.cpp."""

    _fields_ = fields(
        int64="items positions channels mapped", int32="mapped_first threads", float="bound unused"
    )


def available(transform) -> bool:
    """Whether the kernel can be used on this machine."""
    return _library() is not None


def coupling_forward(transform, split: Split, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """(z, logdet)."""
    z, logdet = torch.empty_like(x), x.new_empty(len(x))
    _call("forward", transform, split, (x, p, z, logdet))
    return z, logdet


def coupling_inverse(transform, split: Split, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """(x, logdet)."""
    x, logdet = torch.empty_like(z), z.new_empty(len(z))
    _call("inverse", transform, split, (z, p, x, logdet))
    return x, logdet


def coupling_backward(transform, split: Split, x: Tensor, p: Tensor, g_z: Tensor, g_logdet: Tensor):
    """(g_x, g_p) of `coupling_forward`."""
    g_x, g_p = torch.empty_like(x), torch.empty_like(p)
    _call("backward", transform, split, (x, p, g_z, g_logdet, g_x, g_p))
    return g_x, g_p


def coupling_inverse_backward(
    transform, split: Split, x: Tensor, p: Tensor, g_x: Tensor, g_logdet: Tensor
):
    """(g_z, g_p) of `coupling_inverse`, whose result was x."""
    g_z, g_p = torch.empty_like(x), torch.empty_like(p)
    _call("inverse_backward", transform, split, (x, p, g_x, g_logdet, g_z, g_p))
    return g_z, g_p


_SHAPES = {  # of the arguments: as x, as p, or one number for each item
    "forward": "xpxl",
    "inverse": "xpxl",
    "backward": "xpxlxp",
    "inverse_backward": "xpxlxp",
}


@functools.cache
def _library() -> ctypes.CDLL | None:
    pointers = {name: [ctypes.c_void_p] * (1 + len(of)) for name, of in _SHAPES.items()}
    return functions("affine", pointers)


@functools.lru_cache(maxsize=1024)
def _settings(shape: torch.Size, split: Split, bound: float, threads: int):
    """And the shapes of what the kernels take."""
    batch, _, *space = shape
    channels, mapped = split.channels, split.channels - split.keep
    settings = _Settings(batch, math.prod(space), channels, mapped, split.swap, threads, bound, 0.0)
    shapes = {"x": (batch, channels, *space), "p": (batch, 2 * mapped, *space), "l": (batch,)}
    return settings, shapes


def _call(name: str, transform, split: Split, tensors: tuple[Tensor, ...]) -> None:
    shape, threads = tensors[0].shape, torch.get_num_threads()
    settings, shapes = _settings(shape, split, transform.bound, threads)
    pairs = zip(tensors, _SHAPES[name], strict=True)
    pointers = [address(t, shapes[kind]) for t, kind in pairs]
    getattr(_library(), f"affine_{name}")(ctypes.byref(settings), *pointers)
