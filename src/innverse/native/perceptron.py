"""Perceptrons, and the convolution networks that are perceptrons of patches, by the C++ kernel.

Rows are the items of a batch of vectors, or the pixels of channels_last images. Weights come as
W_1, b_1, ..., W_L, b_L: matrices, or for images a 3x3 kernel, 1x1 kernels, and a 3x3 kernel.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import handwritten
from .build import Unavailable, load

ACTIVATIONS = ("relu", "silu")
_MOST = 8  # layers, as in perceptron.cpp
_SPARE = 16  # numbers that the kernel may read beyond a row


class _Settings(ctypes.Structure):
    """`struct Perceptron` of perceptron.cpp."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("layers", ctypes.c_int32),
        ("silu", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("half", ctypes.c_int32),
        ("signs", ctypes.c_int32),
        ("unused", ctypes.c_int32),
        ("size", ctypes.c_int64 * (_MOST + 1)),
    )


class Kind(NamedTuple):
    """The activation, and whether products take bfloat16 (and sum in float32)."""

    activation: str
    bf16: bool = False


def formula(kind: Kind, x: Tensor, *tensors: Tensor) -> Tensor:
    """The network in PyTorch's own operations."""
    act = getattr(F, kind.activation)
    rounded = torch.autocast(x.device.type, torch.bfloat16) if kind.bf16 else nullcontext()
    with rounded:
        for i in range(0, len(tensors), 2):
            w, b = tensors[i : i + 2]
            x = act(x) if i else x
            x = F.linear(x, w, b) if w.dim() == 2 else F.conv2d(x, w, b, padding=w.shape[-1] // 2)
    return x.float() if kind.bf16 else x


def applies(x: Tensor, kind: Kind, tensors: Sequence[Tensor]) -> bool:
    """True where the kernel serves x (B, C) or (B, C, H, W) and these weights."""
    return (
        kind.activation in ACTIVATIONS
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.dim() in (2, 4)
        and 4 <= len(tensors) <= 2 * _MOST
        and all(t.dtype == torch.float32 for t in tensors)
        and x.numel() > 0
        and handwritten.applies()
        and _library() is not None
        and (not kind.bf16 or bool(_library().perceptron_bfloat16()))
    )


@dataclass
class Rows:
    """``channels`` of the channels of a dense tensor from ``first`` on, as rows for the kernel."""

    tensor: Tensor
    first: int
    channels: int

    @property
    def pointer(self) -> int:
        return self.tensor.data_ptr() + 4 * self.first

    @property
    def apart(self) -> int:
        return self.tensor.shape[1]


def _all_of(x: Tensor) -> Rows:
    return Rows(x, 0, x.shape[1])


class Weights:
    """The tensors of a network as the kernel takes them: dense matrices and biases."""

    def __init__(self, tensors: Sequence[Tensor]):
        matrices = [_matrix(w) for w in tensors[::2]]
        biases = [b.contiguous() for b in tensors[1::2]]
        self.sizes = tuple(len(w) for w in matrices)
        self.pointers, self.bias_pointers = _pointers(matrices), _pointers(biases)
        self._owned = matrices, biases


def dense(x: Tensor) -> Tensor:
    """x with its channels innermost and no gaps."""
    if x.dim() == 2:
        return x.contiguous()
    return x.contiguous(memory_format=torch.channels_last)


def apply(x: Tensor, kind: Kind, *tensors: Tensor) -> Tensor:
    """The network as one node of the graph; differentiable twice, by its formula."""
    return _Network.apply(kind, x, *tensors)


def forward(
    x: Rows, kind: Kind, weights: Weights, keep: bool, signs: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """The result (B, n_out, ...), dense, and with ``keep`` what `backward` needs.

    With ``signs`` that is a byte for each number, from which it cannot make gradients of weights.
    """
    settings = _settings_for(x, kind, weights, signs)
    out = _empty_like(x.tensor, settings.size[settings.layers])
    sizes = (settings.size[i] for i in range(1, settings.layers) if keep)
    each = 4 if signs else 2 if kind.bf16 else 1  # numbers in a word
    words = (-(-n // each) for n in sizes)
    kept = [torch.empty(settings.rows * n + _SPARE) for n in words]
    _run(
        "forward", settings,
        x.pointer, x.apart, weights.pointers, weights.bias_pointers,
        _pointers(kept or [None] * (settings.layers - 1)), out.data_ptr(),
    )  # fmt: skip
    return out, kept


def backward(
    x: Rows,
    kind: Kind,
    weights: Weights,
    tensors: Sequence[Tensor],
    kept: Sequence[Tensor],
    g: Tensor,
    g_x: Rows | None,
    needed: Sequence[bool],
    signs: bool = False,
) -> list[Tensor | None]:
    """The gradients of those ``tensors`` that are ``needed``; that of x is added to ``g_x``."""
    settings = _settings_for(x, kind, weights, signs)
    found = [_gradient(t) if need else None for t, need in zip(tensors, needed, strict=True)]
    g = dense(g)  # named, so that it outlives the call
    _run(
        "backward", settings,
        x.pointer, x.apart, weights.pointers, _pointers(kept), g.data_ptr(),
        g_x and g_x.pointer, g_x.apart if g_x else 0, _pointers(found[::2]), _pointers(found[1::2]),
    )  # fmt: skip
    return found


class _Network(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kind, x, *tensors):
        rows = _all_of(dense(x))
        ctx.signs = signs_suffice(kind, ctx.needs_input_grad[2:])
        keep = any(ctx.needs_input_grad)
        out, kept = forward(rows, kind, Weights(tensors), keep, ctx.signs)
        ctx.kind, ctx.n = kind, len(tensors)
        ctx.save_for_backward(x, *tensors, *kept)
        return out

    @staticmethod
    def backward(ctx, g):
        x, *saved = ctx.saved_tensors
        tensors, kept = saved[: ctx.n], saved[ctx.n :]
        _, need_x, *needed = ctx.needs_input_grad
        if torch.is_grad_enabled():
            exact = lambda *t: (formula(ctx.kind, *t),)  # noqa: E731
            return None, *handwritten.exact(exact, (x, *tensors), (g,), (need_x, *needed))
        rows = _all_of(dense(x))
        g_x = torch.zeros_like(rows.tensor) if need_x else None
        to = _all_of(g_x) if need_x else None
        weights = Weights(tensors)
        found = backward(rows, ctx.kind, weights, tensors, kept, g, to, needed, ctx.signs)
        return None, g_x, *found


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        library = load("perceptron")
    except Unavailable:
        return None
    for name in ("forward", "backward"):
        getattr(library, f"perceptron_{name}_scratch").restype = ctypes.c_int64
    return library


def _settings_for(x: Rows, kind: Kind, weights: Weights, signs: bool) -> _Settings:
    sizes = (x.channels, *weights.sizes)
    return _settings(x.tensor.shape, x.apart, sizes, kind, signs, torch.get_num_threads())


def signs_suffice(kind: Kind, needed: Sequence[bool]) -> bool:
    """Whether `backward` can do with the signs of the hidden layers."""
    return kind.activation == "relu" and not any(needed)


@functools.lru_cache(maxsize=1024)
def _settings(
    shape: torch.Size, apart: int, sizes: tuple[int, ...], kind: Kind, signs: bool, threads: int
):
    height, width = shape[2:] if len(shape) == 4 else (0, 0)
    return _Settings(
        shape.numel() // apart, height, width, len(sizes) - 1,
        kind.activation == "silu", threads, kind.bf16, signs, 0,
        (ctypes.c_int64 * (_MOST + 1))(*sizes),
    )  # fmt: skip


def _run(name: str, settings: _Settings, *arguments) -> None:
    library = _library()
    scratch = torch.empty(getattr(library, f"perceptron_{name}_scratch")(ctypes.byref(settings)))
    getattr(library, f"perceptron_{name}")(
        ctypes.byref(settings),
        ctypes.c_void_p(scratch.data_ptr()),
        # a size takes eight bytes, like a pointer
        *(a if isinstance(a, ctypes.Array) else ctypes.c_void_p(a) for a in arguments),
    )


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array:
    addresses = (None if t is None else t.data_ptr() for t in tensors)
    return (ctypes.c_void_p * len(tensors))(*addresses)


def _matrix(w: Tensor) -> Tensor:
    """A kernel (n_out, n_in, 3, 3) in the order (n_out, 3, 3, n_in); a matrix as it is."""
    return (w.permute(0, 2, 3, 1) if w.dim() == 4 else w).contiguous()


def _gradient(t: Tensor) -> Tensor:
    """Room for the gradient of a weight or bias, in the order that the kernel writes."""
    if t.dim() < 4:
        return torch.empty(t.shape)
    n_out, n_in, height, width = t.shape
    return torch.empty(n_out, height, width, n_in).permute(0, 3, 1, 2)


def _empty_like(x: Tensor, channels: int) -> Tensor:
    """Room for ``channels`` channels, dense, in the layout of `dense`."""
    if x.dim() == 2:
        return torch.empty(len(x), channels)
    batch, _, height, width = x.shape
    return torch.empty(batch, height, width, channels).permute(0, 3, 1, 2)
