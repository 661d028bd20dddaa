"""What a GPU refuses or does otherwise, on machines without one.

`nobody_waits` runs code on tensors of the meta device, which have shapes but no values, and raises at
all that would wait for a GPU or copy between it and the CPU. `RecordedOnCpu` stands in for CUDA graphs:
it records the operations that a function asks for and replays them, so Python is not run again and
numbers that were no tensors stay as they were.
"""

from __future__ import annotations

import contextlib
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("meta")
"""A device that runs ahead of Python and on which every value is unknown."""

_aten = torch.ops.aten
_CHECKS = {
    _aten._linalg_check_errors.default,
    _aten.equal.default,
    _aten._local_scalar_dense.default,
}
_BY_INDEX = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default}
_MASKS = (torch.bool, torch.uint8)
_COPIES = {_aten._to_copy.default, _aten.copy_.default, _aten.lift_fresh.default}


class Waited(Exception):
    """Something would have waited for the GPU."""


class _Mode(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the compiler is imported, which takes seconds


class _Strict(_Mode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        on_gpu = any(t.device.type == GPU.type for t in given)
        depends = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
        if func in _BY_INDEX:
            depends = any(t is not None and t.dtype in _MASKS for t in args[1])
        if on_gpu and (depends or func in _CHECKS):
            raise Waited(f"{func}: what it gives depends on values")
        if on_gpu and func is _aten._fused_adamw_.tensor_lr:
            result = None  # which the meta device does not know; it writes in place
        else:
            result = func(*args, **(kwargs or {}))
        every = given + [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        # a CPU tensor of no axes goes to kernels as a number
        kinds = {t.device.type for t in every if t.dim() or func in _COPIES}
        if len(kinds) > 1:
            raise Waited(f"{func}: tensors on {' and '.join(sorted(kinds))}")
        return result


@contextlib.contextmanager
def nobody_waits(monkeypatch):
    """Raise `Waited`, at the line that asks, at all that waits for the GPU within."""

    def refusing(function):
        def run(*args, device=None, **options):
            there = args and isinstance(args[0], torch.Tensor) and args[0].device == device
            if device is not None and torch.device(device).type == GPU.type and not there:
                raise Waited(f"{function.__name__} makes a tensor on the CPU and copies it")
            return function(*args, device=device, **options)

        return run

    with monkeypatch.context() as m, _Strict():
        for name in ("tensor", "as_tensor"):
            m.setattr(torch, name, refusing(getattr(torch, name)))
        of_optimisers = sys.modules["torch.optim.optimizer"]
        m.setattr(of_optimisers, "_get_fused_kernels_supported_devices", lambda: [GPU.type])
        yield


def on_gpu(module: torch.nn.Module) -> torch.nn.Module:
    """The module there, in place."""
    return module.to(GPU)


# ---- graphs --------------------------------------------------------------------------------------


class RecordedOnCpu:
    """`innverse.accelerate.captured.CudaRecorder`, of operations on the CPU.

    Attributes:
        made: how many records were made by all of them.
        replays: and how often they were run.
    """

    made = replays = 0
    waited = None

    def __init__(self, device: torch.device):
        pass

    @contextlib.contextmanager
    def aside(self):
        yield

    def record(self, function):
        type(self).made += 1
        with _Recording() as recording:
            results = function()
        recording.undo()

        def replay() -> None:
            type(self).replays += 1
            recording.replay()

        return replay, results


class _Recording(_Mode):
    run = staticmethod(lambda func, args, kwargs: func(*args, **kwargs))

    def __init__(self):
        super().__init__()
        self.steps: list[tuple] = []
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.made: set[int] = set()
        self.generator = torch.get_rng_state()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.Tag.data_dependent_output in func.tags or func in _CHECKS:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        for t in _written(func, args, kwargs):
            if _storage(t) not in self.made and id(t) not in self.before:
                self.before[id(t)] = t, t.detach().clone()
        results = self.run(func, args, kwargs)
        old = {_storage(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        new = [t for t in tree_leaves(results) if isinstance(t, torch.Tensor)]
        new = [t for t in new if _storage(t) not in old]
        self.made |= {_storage(t) for t in new}
        self.steps.append((func, args, kwargs, results, {id(t) for t in new}))
        return results

    def undo(self) -> None:
        """A record runs nothing: what was there before is as it was."""
        for t, value in self.before.values():
            t.data.copy_(value)
        torch.set_rng_state(self.generator)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, results, new in self.steps:
            for place, value in zip(
                tree_leaves(results), tree_leaves(self.run(func, args, kwargs)), strict=True
            ):
                if id(place) in new:
                    place.data.copy_(value)


def _written(func, args, kwargs):
    for k, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = kwargs.get(argument.name) if k >= len(args) else args[k]
            yield from (t for t in tree_leaves(given) if isinstance(t, torch.Tensor))


def _storage(t: torch.Tensor) -> int:
    return t.untyped_storage()._cdata


def recording_on_cpu(monkeypatch):
    """Let the CPU have graphs; returns the recorder, which counts."""
    from innverse.accelerate import captured

    RecordedOnCpu.made = RecordedOnCpu.replays = 0
    monkeypatch.setattr(captured, "_recorder", RecordedOnCpu)
    monkeypatch.setattr(captured, "_records", lambda device: True)
    return RecordedOnCpu
