"""Work whose shapes stay the same, as CUDA graphs: a GPU then never waits for Python.

A step of a flow is two thousand small kernels, which Python starts more slowly than a GPU runs them. A
CUDA graph records them once and starts them all at once. What is recorded are addresses and numbers:
only values may change, so what varies comes in as tensors, and is copied to where the graph reads it.

`Captured` is for steps, which write into parameters; `Graphed` for functions that are differentiated.
Both run the function itself on CPUs, at its first calls with new shapes, and wherever it cannot be
recorded, and so give what it gives. INNVERSE_CAPTURE=0 switches them off.
"""

from __future__ import annotations

import contextlib
import gc
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import torch_private
from ..errors import first_line, warn
from . import handwritten
from .autocast import autocast_dtype, without_autocast_cache
from .constant import varying_inputs
from .regions import repeated_work

_WARM = 2  # calls before a graph is made: libraries choose kernels, optimisers make their state
_KEPT = 8  # graphs of one function, each of other shapes: every one has memory of its own
_WORTH = 16  # calls from which a graph was worth its making

Given = tuple[Tensor | None, ...]


class CudaRecorder:
    """Work on a stream of its own, recorded there and replayed.

    Attributes:
        waited: what last ran `aside` waited for the device, and so cannot be recorded: what PyTorch
            says of it; else None.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.stream = torch.cuda.Stream(device)
        # records of one recorder share their memory
        self._pool = torch.cuda.graph_pool_handle()
        self.waited: str | None = None

    @contextlib.contextmanager
    def aside(self) -> Generator[None]:
        """What runs within is on that stream, after what came before and before what follows."""
        found: list[str] = []
        with torch.cuda.device(self.device):
            outside = torch.cuda.current_stream()
            self.stream.wait_stream(outside)
            try:
                with torch.cuda.stream(self.stream), _watching(found):
                    yield
            finally:
                outside.wait_stream(self.stream)
        self.waited = found[0] if found else None

    def record(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """``function()`` without running it: what runs it, and where its results will stand.

        Records must be replayed in the order in which they were made.
        """
        graph = torch.cuda.CUDAGraph()
        # other threads (of data loaders, say) may go on talking to the device
        mode, before = "thread_local", torch.cuda.current_stream(self.device)
        recording = torch.cuda.graph(graph, self._pool, self.stream, mode)
        try:
            with torch.cuda.device(self.device), _nothing_is_freed(), recording:
                results = function()
        except BaseException:
            torch.cuda.set_stream(before)  # a record that fails leaves its own stream behind
            self._mend(graph)
            raise
        torch.cuda.set_stream(before)
        return graph.replay, results

    def _mend(self, failed: Any) -> None:
        """After a record that failed PyTorch goes on taking random numbers and memory for recorded: as
        of 2.11 nothing can be drawn on the device until a record has succeeded."""
        _FAILED.append(failed)  # the allocator may still ask it
        torch_private.leave_pool(self.device, self._pool)
        self._pool = torch.cuda.graph_pool_handle()
        before, aside = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        recording = torch.cuda.graph(torch.cuda.CUDAGraph(), stream=aside)
        with contextlib.suppress(RuntimeError), torch.cuda.device(self.device), recording:
            torch.zeros(1, device=self.device)
        torch.cuda.set_stream(before)


_FAILED: list[Any] = []


@contextlib.contextmanager
def _watching(found: list[str]) -> Generator[None]:
    """Collect what waits for the device within; other warnings go on to whom they are for."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode(max(before, 1))
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in caught:
        text = str(warning.message)
        if "synchronizing CUDA operation" in text:
            found.append(f"{first_line(RuntimeError(text))} ({warning.filename}:{warning.lineno})")
        elif "Synchronization debug mode" not in text:
            warnings.warn_explicit(text, warning.category, warning.filename, warning.lineno)


@contextlib.contextmanager
def _nothing_is_freed() -> Generator[None]:
    """Within it no cycle is collected: what is freed on the device would end a record."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


_recorder: Callable[[torch.device], Any] = CudaRecorder


def _recordable(given: Sequence[Tensor | None]) -> bool:
    """Whether a call with these tensors may be recorded at all."""
    device = next((t.device for t in given if t is not None), None)
    return (
        device is not None
        and _records(device)
        and os.environ.get("INNVERSE_CAPTURE", "1") != "0"
        and handwritten.applies()
        and torch_private.modes_of_dispatch() == 0
        and all(t is None or t.device == device for t in given)
    )


def _records(device: torch.device) -> bool:
    return device.type == "cuda" and not torch.cuda.is_current_stream_capturing()


class _Programs:
    """What is known of a function by the shapes it was called with, the last few of them."""

    def __init__(self, make: Callable[[Given, dict], Any]):
        self._make, self._known, self._wasted = make, OrderedDict(), 0

    def of(self, given: Given, settings: dict[str, Any]) -> Any:
        """The program for such a call; None where shapes change so much that no graph is worth it."""
        key = (
            tuple(None if t is None else _layout(t) for t in given),
            tuple(sorted(settings.items())),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            autocast_dtype(_device(given).type),
        )
        if key not in self._known:
            if self._wasted >= _KEPT:
                return None
            self._known[key] = self._make(given, settings)
            while len(self._known) > _KEPT:
                _, old = self._known.popitem(last=False)
                self._wasted += _WARM < old.calls < _WORTH
        self._known.move_to_end(key)
        return self._known[key]


def _device(given: Given) -> torch.device:
    return next(t.device for t in given if t is not None)


@contextlib.contextmanager
def _recorded_or_soon() -> Generator[None]:
    """For all that runs within a graph, or will: nothing is read off earlier calls."""
    with varying_inputs(), without_autocast_cache():
        yield


def _layout(t: Tensor) -> tuple:
    # not strides: a mirrored or transposed image is copied to the same place
    return t.shape, t.dtype, t.device, t.requires_grad


def _place(t: Tensor | None) -> Tensor | None:
    """Where a graph reads a tensor like t."""
    return None if t is None else torch.empty_like(t).copy_(t.detach())


def _put(places: Given, given: Given) -> None:
    """The values of ``given`` to where a graph reads them."""
    with torch.no_grad():
        for place, t in zip(places, given, strict=True):
            if place is not None and t is not None:
                place.copy_(t)


def _apart(results: Any) -> Any:
    """Results as tensors of their own: the next replay writes over those of a graph."""
    if isinstance(results, tuple):
        return tuple(map(_apart, results))
    return results.clone() if isinstance(results, Tensor) else results


def _gave_up(reason: BaseException | str) -> None:
    if isinstance(reason, BaseException):
        # the end of a record complains of what was in it
        while isinstance(reason.__context__, RuntimeError):
            reason = reason.__context__
        reason = first_line(reason)
    warn(f"this runs without a CUDA graph, kernel by kernel and slower: {reason}")


# ---- steps ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _fastest_convolutions() -> Generator[None]:
    """Within it cuDNN tries its ways for each shape once, and keeps the fastest: steps are many."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or not torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class Captured:
    """``function(*tensors, **settings)``, each call of which runs it once, recorded or not.

    Args:
        function: takes tensors (or None) whose values may differ from call to call, and settings that
            are numbers or texts, and returns tensors. It may write into tensors that stay where they
            are, parameters or the state of an optimiser; it must read nothing else that changes,
            and not wait for the device. Random numbers of torch's global generator are fine.

    Example:
        >>> total = torch.zeros(3)
        >>> step = Captured(lambda x: total.add_(x))
        >>> step(torch.ones(3)), step(torch.ones(3))
        (tensor([1., 1., 1.]), tensor([2., 2., 2.]))
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self._programs = _Programs(lambda given, settings: _Step(self.function, given, settings))

    def __call__(self, *tensors: Tensor | None, **settings: Any) -> Any:
        with repeated_work(), _fastest_convolutions():
            program = self._programs.of(tensors, settings) if _recordable(tensors) else None
            if program is None:
                return _apart(self.function(*tensors, **settings))
            return program(tensors)


class _Step:
    """A function with inputs of one layout."""

    def __init__(self, function: Callable[..., Any], given: Given, settings: dict[str, Any]):
        self.places = tuple(map(_place, given))
        self.run = lambda: function(*self.places, **settings)
        self.recorder = _recorder(_device(given))
        self.calls, self.hopeless = 0, False
        self.replay: Callable[[], None] | None = None
        self.results: Any = None

    def __call__(self, given: Given) -> Any:
        _put(self.places, given)
        self.calls += 1
        if self.replay is None and self.calls > _WARM and not self.hopeless:
            self._record()
        if self.replay is None:
            aside = contextlib.nullcontext() if self.hopeless else self.recorder.aside()
            with _recorded_or_soon(), aside:
                return _apart(self.run())
        self.replay()
        return _apart(self.results)

    def _record(self) -> None:
        if self.recorder.waited is not None:
            self.hopeless = True
            return _gave_up(self.recorder.waited)
        try:
            with _recorded_or_soon():
                self.replay, self.results = self.recorder.record(self.run)
        except RuntimeError as error:
            self.hopeless = True
            _gave_up(error)


# ---- functions that are differentiated ----------------------------------------------------------


class Graphed:
    """``function(*tensors)``, a pure function with one result, with one graph forward and one back.

    Gradients reach the tensors, not what else the function reads (parameters must not need any). It is
    for many calls with inputs alike, as in a solver; see `innverse.accelerate.constant`.

    Example:
        >>> f = Graphed(lambda x: x.square().sum(1))
        >>> x = torch.ones(2, 3, requires_grad=True)
        >>> torch.autograd.grad(f(x).sum(), x)[0][0]
        tensor([2., 2., 2.])
    """

    def __init__(self, function: Callable[..., Tensor]):
        self.function = function
        self._programs = _Programs(lambda given, _: _Function(self.function, given))

    def __call__(self, *tensors: Tensor | None) -> Tensor:
        program = self._programs.of(tensors, {}) if _recordable(tensors) else None
        return self.function(*tensors) if program is None else program(tensors)


class _Function:
    """A pure function with inputs of one layout, and its gradient."""

    def __init__(self, function: Callable[..., Tensor], given: Given):
        self.function = function
        self.needed = tuple(
            torch.is_grad_enabled() and t is not None and t.requires_grad for t in given
        )
        self.calls, self.hopeless = 0, False
        self.forward: Any = None  # what runs the graphs, once there are any
        self.backward: Any = None
        self.turn = 0  # of whom what the forward graph has left behind is

    def __call__(self, given: Given) -> Tensor:
        self.calls += 1
        # the call before it, and the one aside within it, are what makes it warm
        if self.forward is None and self.calls >= _WARM and not self.hopeless:
            self._record(given)
        if self.forward is None:
            return self.function(*given)
        if any(self.needed):
            return _Node.apply(self, *given)
        self.replay(given)
        return self.result.detach().clone()

    def replay(self, given: Given) -> int:
        """Run forward; returns the number of the turn."""
        _put(self.places, given)
        self.forward()
        self.turn += 1
        return self.turn

    def pull_back(self, turn: int, given: Given, g: Tensor) -> list[Tensor | None]:
        """The gradients of ``given``, whose turn it was when ``turn`` was given out."""
        if turn != self.turn:  # another call has been here since
            self.replay(given)
        self.g.copy_(g)
        self.backward()
        self.turn += 1  # going back may have used up what forward left behind
        found = iter(self.gradients)
        return [next(found).clone() if need else None for need in self.needed]

    def _record(self, given: Given) -> None:
        recorder = _recorder(_device(given))
        self.places = tuple(
            p if p is None else p.requires_grad_(need)
            for p, need in zip(map(_place, given), self.needed, strict=True)
        )
        try:
            with _recorded_or_soon(), recorder.aside():
                result = self.function(*self.places)
                self.g = torch.zeros_like(result)
                self._gradient(result)
                del result
            if recorder.waited is not None:
                self.hopeless = True
                return _gave_up(recorder.waited)
            with _recorded_or_soon():
                forward, self.result = recorder.record(lambda: self.function(*self.places))
                backward = None
                if any(self.needed):
                    backward, self.gradients = recorder.record(lambda: self._gradient(self.result))
            self.result = self.result.detach()
            self.forward, self.backward = forward, backward
        except RuntimeError as error:
            self.hopeless = True
            _gave_up(error)

    def _gradient(self, result: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(self.places, self.needed, strict=True)
        wanted = [p for p, need in pairs if need and p is not None]
        return torch.autograd.grad(result, wanted, self.g) if wanted else ()


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx, program: _Function, *given: Tensor | None) -> Tensor:
        ctx.program, ctx.turn = program, program.replay(given)
        ctx.save_for_backward(*given)
        return program.result.clone()

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        (g,), given, program = gradients, ctx.saved_tensors, ctx.program
        if handwritten.wants_formula(g):
            formula = lambda *given: (program.function(*given),)  # noqa: E731
            return None, *handwritten.exact(formula, given, (g,), ctx.needs_input_grad[1:])
        return None, *program.pull_back(ctx.turn, given, g)
