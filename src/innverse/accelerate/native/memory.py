"""The one gate to the kernels: which tensors they may see, and the only place that takes pointers.

A kernel trusts what it is given. So `plain` asks beforehand whether tensors are what a kernel can
read, and the caller takes the formula where they are not; and `address` checks every tensor once
more, against the shape that the kernel will assume, before its pointer leaves Python.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ... import torch_private
from ...errors import InnverseError

_PLAIN = (Tensor, torch.nn.Parameter)  # themselves: a subclass may hold anything


def plain(*tensors: Tensor) -> bool:
    """True for float32 numbers that lie in this processor's memory as they are, while no mode takes
    part in all operations (fake tensors, counters of operations), which would miss the kernel."""
    return torch_private.modes_of_dispatch() == 0 and all(map(_is_plain, tensors))


def _is_plain(t: Tensor) -> bool:
    return (
        type(t) in _PLAIN
        and t.dtype is torch.float32
        and t.is_cpu
        and t.layout is torch.strided
        and not t.is_neg()
    )


def dense(x: Tensor) -> Tensor:
    """x (B, C, ...) with its channels innermost and no gaps."""
    x = x.resolve_neg()
    if x.dim() == 2:
        return x.contiguous()
    return x.contiguous(memory_format=torch.channels_last)


def address(t: Tensor, shape: Sequence[int], *, channels_last: bool = True) -> int:
    """The address of ``t``, which must be plain, of this shape, and without gaps: as `dense` makes
    it, or in the order of its axes without ``channels_last``.

    Raises:
        InnverseError: it is not; the kernel would read or write what is not its own.
    """
    if t.shape == shape and _is_plain(t):
        images = channels_last and len(shape) == 4
        # storage may be gone, or never have been there: then the address is zero
        if (
            t.is_contiguous(memory_format=torch.channels_last) if images else t.is_contiguous()
        ) and (found := t.data_ptr()):
            return found
    raise InnverseError(
        f"a kernel expects {tuple(shape)} numbers in float32 one after another, and got a "
        f"{type(t).__name__} {tuple(t.shape)} in {t.dtype} on {t.device}: please report this, "
        "and set INNVERSE_NATIVE=0"
    )


def addresses(tensors: Sequence[Tensor | None], shapes: Iterable[Sequence[int]]) -> ctypes.Array:
    """As an array for C; None becomes a null pointer."""
    pairs = zip(tensors, shapes, strict=True)
    return _array(len(tensors))(*[None if t is None else address(t, shape) for t, shape in pairs])


def found(tensors: Sequence[Tensor]) -> ctypes.Array:
    """As `addresses`, of what `dense` or `contiguous` has just made of `plain` tensors.

    Raises:
        InnverseError: their storage is gone.
    """
    places = [t.data_ptr() for t in tensors]
    if not all(places):
        raise InnverseError("a kernel was given weights without storage")
    return _array(len(tensors))(*places)


@functools.cache
def _array(n: int) -> type[ctypes.Array]:
    return ctypes.c_void_p * n
