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

from ...errors import InnverseError
from .. import handwritten
from ..autocast import with_autocast
from . import memory
from .build import fields, functions
from .memory import address, addresses, dense

ACTIVATIONS = ("relu", "silu")
_MOST = 8  # layers, as in perceptron.cpp


class _Settings(ctypes.Structure):
    """`struct Perceptron` of perceptron.cpp."""

    _fields_ = [
        *fields(int64="rows height width", int32="layers silu threads half signs unused"),
        ("size", ctypes.c_int64 * (_MOST + 1)),
    ]


class Kind(NamedTuple):
    """The activation, and whether products take bfloat16 (and sum in float32)."""

    activation: str
    bf16: bool = False


def formula(kind: Kind, x: Tensor, *tensors: Tensor) -> Tensor:
    """The network in PyTorch's own operations."""
    act = getattr(F, kind.activation)
    rounded = with_autocast(x.device.type, torch.bfloat16) if kind.bf16 else nullcontext()
    with rounded:
        for i in range(0, len(tensors), 2):
            w, b = tensors[i : i + 2]
            x = act(x) if i else x
            x = F.linear(x, w, b) if w.dim() == 2 else F.conv2d(x, w, b, padding=w.shape[-1] // 2)
    return x.float() if kind.bf16 else x


def applies(
    x: Tensor, kind: Kind, tensors: Sequence[Tensor], channels: int | None = None
) -> Weights | None:
    """The weights for the kernel where it serves x (B, C) or (B, C, H, W) and these tensors, and these
    fit one another, and take ``channels`` channels; else None."""
    here = kind.activation in ACTIVATIONS and x.dim() in (2, 4) and x.numel() > 0
    if not (here and memory.plain(x, *tensors)) or _library() is None:
        return None
    sizes = _sizes(x.dim(), tuple([t.shape for t in tensors]))
    return Weights(tensors, sizes) if sizes and channels in (None, sizes[0]) else None


@dataclass
class Rows:
    """``channels`` of the channels of a dense tensor from ``first`` on, as rows for the kernel."""

    tensor: Tensor
    first: int
    channels: int

    @property
    def pointer(self) -> int:
        if not 0 <= self.first <= self.first + self.channels <= self.apart:
            raise InnverseError(f"channels {self.first} + {self.channels} of {self.apart}")
        return address(self.tensor, self.tensor.shape) + 4 * self.first

    @property
    def apart(self) -> int:
        return self.tensor.shape[1]


def _all_of(x: Tensor) -> Rows:
    return Rows(x, 0, x.shape[1])


class Weights:
    """The tensors of a network as the kernel takes them: dense matrices and biases.

    ``sizes`` are those that `applies` found, which has then looked at the tensors too.
    """

    def __init__(self, tensors: Sequence[Tensor], sizes: tuple[int, ...] | None = None):
        self.shapes = tuple([t.shape for t in tensors])
        self.axes = tensors[0].dim()
        found = sizes or (memory.plain(*tensors) and _sizes(self.axes, self.shapes))
        if not found:
            raise InnverseError(f"no kernel for weights {[tuple(s) for s in self.shapes]}")
        self.sizes = found  # channels of the input, the hidden layers and the result
        matrices = [dense(w) for w in tensors[::2]]
        biases = [b.contiguous() for b in tensors[1::2]]
        self.pointers, self.bias_pointers = memory.found(matrices), memory.found(biases)
        self._owned = matrices, biases


def apply(x: Tensor, kind: Kind, *tensors: Tensor, weights: Weights | None = None) -> Tensor:
    """The network as one node of the graph; differentiable twice, by its formula.

    ``weights`` are those of ``tensors``, if they were made already.
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *tensors)):
        return _Network.apply(kind, x, *tensors)
    return forward(_all_of(dense(x)), kind, weights or Weights(tensors), keep=False)[0]


def forward(
    x: Rows, kind: Kind, weights: Weights, keep: bool, signs: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """The result (B, n_out, ...), dense, and with ``keep`` what `backward` needs.

    With ``signs`` that is a byte for each number, from which it cannot make gradients of weights.
    """
    call = _call_for(x, kind, weights, signs)
    out = _empty_like(x.tensor, weights.sizes[-1])
    kept = [x.tensor.new_empty(s) for s in call.kept] if keep else []
    call.forward(
        x.tensor, x.pointer, x.apart, weights.pointers, weights.bias_pointers,
        addresses(kept, call.kept) if keep else call.nothing, address(out, out.shape),
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
    call = _call_for(x, kind, weights, signs)
    found = [_gradient(t) if need else None for t, need in zip(tensors, needed, strict=True)]
    g = dense(g)  # named, so that it outlives the call
    batch, _, *space = x.tensor.shape
    if g_x and (g_x.channels != x.channels or g_x.tensor.shape[::2] != x.tensor.shape[::2]):
        raise InnverseError(f"a gradient {tuple(g_x.tensor.shape)} for {tuple(x.tensor.shape)}")
    call.backward(
        x.tensor, x.pointer, x.apart, weights.pointers, addresses(kept, call.kept),
        address(g, (batch, weights.sizes[-1], *space)), g_x and g_x.pointer, g_x.apart if g_x else 0,
        addresses(found[::2], weights.shapes[::2]), addresses(found[1::2], weights.shapes[1::2]),
    )  # fmt: skip
    return found


class _Network(torch.autograd.Function):
    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, kind, x, *tensors):
        rows = _all_of(dense(x))
        ctx.signs = signs_suffice(kind, ctx.needs_input_grad[2:])
        keep = any(ctx.needs_input_grad)
        out, kept = forward(rows, kind, Weights(tensors), keep, ctx.signs)
        ctx.kind, ctx.n = kind, len(tensors)
        ctx.save_for_backward(x, *tensors, *kept)
        return out

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, g):
        x, *saved = ctx.saved_tensors
        tensors, kept = saved[: ctx.n], saved[ctx.n :]
        _, need_x, *needed = ctx.needs_input_grad
        if handwritten.wants_formula(g):
            exact = lambda *t: (formula(ctx.kind, *t),)  # noqa: E731
            return None, *handwritten.exact(exact, (x, *tensors), (g,), (need_x, *needed))
        rows = _all_of(dense(x))
        to = _all_of(torch.zeros_like(rows.tensor)) if need_x else None
        weights = Weights(tensors)
        found = backward(rows, ctx.kind, weights, tensors, kept, g, to, needed, ctx.signs)
        return None, to and to.tensor, *found


@functools.cache
def _library() -> ctypes.CDLL | None:
    pointers = {"forward": [ctypes.c_void_p] * 8, "backward": [ctypes.c_void_p] * 11}
    library = functions("perceptron", pointers)
    for name in ("forward_scratch", "backward_scratch", "kept") if library is not None else ():
        getattr(library, f"perceptron_{name}").restype = ctypes.c_int64
    return library


def _call_for(x: Rows, kind: Kind, weights: Weights, signs: bool) -> _Call:
    if x.tensor.dim() != weights.axes or x.channels != weights.sizes[0]:
        raise InnverseError(
            f"a network of {weights.sizes[0]} channels on {x.channels} of {tuple(x.tensor.shape)}"
        )
    return _call(x.tensor.shape, x.apart, weights.sizes, kind, signs, torch.get_num_threads())


@functools.lru_cache(maxsize=1024)
def _sizes(axes: int, shapes: tuple[torch.Size, ...]) -> tuple[int, ...] | None:
    """How many channels a network with these weights and biases has from layer to layer, the input
    first; None where they do not fit one another, or the kernel."""
    last = len(shapes) // 2 - 1
    if len(shapes) % 2 or not 1 <= last < _MOST or len(shapes[0]) != axes:
        return None
    sizes = [shapes[0][1]]
    for i, (w, b) in enumerate(zip(shapes[::2], shapes[1::2], strict=True)):
        side = 3 if i in (0, last) else 1
        kernel = (side, side) if axes == 4 else ()
        if w[1:] != (sizes[-1], *kernel) or b != w[:1] or 0 in w:
            return None
        sizes.append(w[0])
    return tuple(sizes)


def signs_suffice(kind: Kind, needed: Sequence[bool]) -> bool:
    """Whether `backward` can do with the signs of the hidden layers."""
    return kind.activation == "relu" and not any(needed)


class _Call:
    """The kernels for one network and size of a batch, with what is always the same about them."""

    def __init__(self, settings: _Settings, kind: Kind):
        library = _library()
        assert library is not None  # since `applies`
        self.settings = ctypes.byref(settings)
        self.run = library.perceptron_forward, library.perceptron_backward
        sizes = library.perceptron_forward_scratch, library.perceptron_backward_scratch
        self.scratch = [(size(self.settings),) for size in sizes]
        # the shapes of what forward keeps for backward of every hidden layer
        layers = range(1, settings.layers)
        self.kept = [(library.perceptron_kept(self.settings, ctypes.c_int32(l)),) for l in layers]
        self.nothing = addresses([None] * len(self.kept), self.kept)

    def forward(self, like: Tensor, *arguments) -> None:
        self._run(0, like, *arguments)

    def backward(self, like: Tensor, *arguments) -> None:
        self._run(1, like, *arguments)

    def _run(self, which: int, like: Tensor, *arguments) -> None:
        size = self.scratch[which]
        scratch = like.new_empty(size)
        # all as pointers: a size takes eight bytes as well
        self.run[which](self.settings, address(scratch, size), *arguments)


@functools.lru_cache(maxsize=1024)
def _call(
    shape: torch.Size, apart: int, sizes: tuple[int, ...], kind: Kind, signs: bool, threads: int
) -> _Call:
    height, width = shape[2:] if len(shape) == 4 else (0, 0)
    settings = _Settings(
        shape.numel() // apart, height, width, len(sizes) - 1,
        kind.activation == "silu", threads, kind.bf16, signs, 0,
        (ctypes.c_int64 * (_MOST + 1))(*sizes),
    )  # fmt: skip
    return _Call(settings, kind)


def _gradient(t: Tensor) -> Tensor:
    """Room for the gradient of a weight or bias, as `dense` would lay it out."""
    return t.new_empty(t.shape) if t.dim() < 4 else _empty_like(t, t.shape[1])


def _empty_like(x: Tensor, channels: int) -> Tensor:
    """Room for ``channels`` channels, dense, in the layout of `dense`."""
    batch, _, *space = x.shape
    made = x.new_empty(batch, *space, channels)
    return made.movedim(-1, 1) if space else made
