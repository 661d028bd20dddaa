"""Formulas that a compiler makes few kernels of, where a GPU repeats them often.

An element-wise chain as PyTorch runs it passes over memory once for each operation; `torch.compile`
makes one pass of it. What is decorated with `region` stays the definition: CPUs, transforms of
`torch.func`, small tensors, work that is not repeated (see `repeated_work`) and machines without Triton
run it as it stands. Only the inputs are kept for the gradient, which is a region itself, and so is its
gradient. INNVERSE_COMPILE=0 switches regions off; `why_not` says why they are.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import logging
import os
from collections.abc import Callable, Generator, Sequence
from contextvars import ContextVar
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from .. import torch_private
from ..errors import first_line
from . import handwritten
from .autocast import autocast_dtype, without_autocast

log = logging.getLogger("innverse")

_LEAST = 2**15  # numbers in the largest tensor from which a kernel is worth its compiling

_repeated: ContextVar[bool] = ContextVar("repeated_work", default=False)
_broken: list[str] = []  # why the compiler is left alone from now on


@contextlib.contextmanager
def repeated_work() -> Generator[None]:
    """What runs within runs so often that compiling it pays."""
    token = _repeated.set(True)
    try:
        yield
    finally:
        _repeated.reset(token)


def why_not() -> str | None:
    """Why no region is compiled on the GPU of this machine; None where they are."""
    if os.environ.get("INNVERSE_COMPILE", "1") == "0":
        return "INNVERSE_COMPILE=0"
    if _broken:
        return _broken[0]
    return _lacking()


@functools.cache
def _lacking() -> str | None:
    return None if torch_private.has_triton() else "Triton is not there, or does not know this GPU"


def compiles(x: Tensor, count: int) -> bool:
    """Whether a region on the device of x is compiled, whose largest tensor has ``count`` numbers."""
    return (
        _on(x.device)
        and not torch.compiler.is_compiling()
        and _repeated.get()
        and count >= _LEAST
        and why_not() is None
        and handwritten.applies()
    )


def _on(device: torch.device) -> bool:
    return device.type == "cuda"


def region(formula: Any) -> Any:
    """A decorator for a function of tensors (positional) and settings (by name) that gives a tensor or,
    as its annotation says, a tuple of them; everything else that it reads must not change.

    Example:
        >>> @region
        ... def scaled(x, s, *, power: int):
        ...     return x * s**power
        >>> scaled(torch.ones(2), torch.tensor(3.0), power=2)
        tensor([9., 9.])
    """
    several = "tuple" in str(inspect.signature(formula).return_annotation)

    @functools.wraps(formula)
    def run(*tensors: Tensor, **settings: Any) -> Any:
        x = tensors[0]
        if not (_on(x.device) and compiles(x, max(t.numel() for t in tensors))):
            return formula(*tensors, **settings)
        if autocast_dtype(tensors[0].device.type) is not None:
            with without_autocast(tensors[0].device.type):
                return run(*tensors, **settings)
        alike = [(name, _shared(settings[name])) for name in sorted(settings)]
        made = _of(formula, tuple(alike), len(tensors))
        found = made(*tensors)
        return found if several else found[0]

    return run


_known: dict[tuple, Any] = {}


def _shared(setting: Any) -> Any:
    """One object for all that are alike, so that they share what is compiled."""
    if not hasattr(setting, "__dict__") or isinstance(setting, type):
        return setting
    key = type(setting), *sorted((k, v) for k, v in vars(setting).items() if k[0] != "_")
    try:
        return _known[key] if key in _known else _known.setdefault(key, copy.copy(setting))
    except TypeError:  # a user's own, with something in it that has no hash
        return setting


@functools.cache
def _of(formula: Any, settings: tuple, count: int) -> _Region:
    def given(*tensors: Tensor) -> tuple[Tensor, ...]:
        found = formula(*tensors, **dict(settings))
        return found if isinstance(found, tuple) else (found,)

    return _Region(given, formula.__name__, count)


class _Region:
    """A function of ``count`` tensors that gives a tuple, compiled once for each layout of them."""

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], name: str, count: int):
        self.function, self.name, self.count = function, name, count
        self._compiled: dict[tuple, Callable] = {}
        self._gradients: dict[tuple[bool, ...], _Region] = {}

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            found: Any = _Node.apply(self, *tensors)
            return found
        return self.run(tensors)

    def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Without a graph."""
        with torch.no_grad():
            return self._run(tensors)

    def _run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        tensors = [t.detach() for t in tensors]
        key = tuple((t.shape, t.stride(), t.dtype, t.device) for t in tensors)
        compiled, around = self._compiled.get(key), contextlib.nullcontext()
        recording = tensors[0].is_cuda and torch.cuda.is_current_stream_capturing()
        if compiled is None and not (recording or _broken):
            compiled = self._compiled[key] = _compile(self.function, self.name)
            around = torch_private.compiler_leaves_no_trace()
        if compiled is None:
            return self.function(*tensors)
        try:
            with around:
                return compiled(*tensors)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of the compiler, which raises of all kinds
            self._compiled[key] = self.function
            _broken.append(f"{type(error).__name__}: {first_line(error)}")
            log.info("regions are not compiled: %s", _broken[0])
            if recording:
                raise RuntimeError(_broken[0]) from error
            return self.function(*tensors)

    def gradient(self, needed: tuple[bool, ...], results: int) -> _Region:
        """From the tensors and the gradients of the ``results`` to those of the ``needed`` tensors."""
        if needed not in self._gradients:

            def pulled(*given: Tensor) -> tuple[Tensor, ...]:
                tensors, gradients = given[: self.count], given[self.count :]

                def of(*wanted: Tensor) -> tuple[Tensor, ...]:
                    left = iter(wanted)
                    pairs = zip(tensors, needed, strict=True)
                    return self.function(*[next(left) if need else t for t, need in pairs])

                wanted = [t for t, need in zip(tensors, needed, strict=True) if need]
                return torch.func.vjp(of, *wanted)[1](gradients)

            self._gradients[needed] = _Region(pulled, f"d_{self.name}", self.count + results)
        return self._gradients[needed]


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx, region: _Region, *tensors: Tensor):
        ctx.region = region
        ctx.save_for_backward(*tensors)
        return region.run(tensors)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        region, tensors, needed = ctx.region, ctx.saved_tensors, ctx.needs_input_grad[1:]
        if any(map(torch_private.is_batched, gradients)) or not handwritten.applies():
            return None, *handwritten.exact(region.function, tensors, gradients, needed)
        found = iter(region.gradient(needed, len(gradients))(*tensors, *gradients))
        return None, *(next(found) if need else None for need in needed)


def _compile(function: Any, name: str) -> Callable:
    """``function`` compiled for the layout that it is called with first."""
    # of a code of its own: the compiler counts how often one code is compiled, and gives up
    code = function.__code__.replace(co_name=f"region_{name}")
    parts = function.__globals__, code.co_name, function.__defaults__, function.__closure__
    options: Any = {"fullgraph": True, "dynamic": False, "backend": _BACKEND}
    with torch_private.compiler_leaves_no_trace():
        return torch.compile(FunctionType(code, *parts), **options)


_BACKEND = "inductor"
