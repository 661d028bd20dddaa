"""A GPU played by the CPU: tensors that say they are elsewhere, and have their values.

`absent_gpu` has no values, so it cannot run what decides by them. Here whole calls run (a solve, a
training), and whatever mixes tensors of the GPU with tensors of the CPU, or draws there by a generator
of the CPU, raises as on a GPU. Reading values and copying are allowed.
"""

from __future__ import annotations

import contextlib
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("meta")

_aten = torch.ops.aten
_MOVES = {_aten._to_copy.default, _aten.copy_.default}


class Mixed(RuntimeError):
    """Tensors on different devices."""


class _There(torch.Tensor):
    """A tensor that says it is on the GPU."""

    is_meta = False  # it has values

    @staticmethod
    def __new__(cls, values: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=GPU,
        )

    def __init__(self, values: torch.Tensor):
        self.values = values

    def _read(name):
        return lambda self, *given: getattr(self.cpu(), name)(*given)

    # which never reach the operations of a subclass
    tolist, item, __bool__, __float__, __int__ = map(
        _read, ("tolist", "item", "__bool__", "__float__", "__int__")
    )
    __index__, is_nonzero, allclose = map(_read, ("__index__", "is_nonzero", "allclose"))

    def new_tensor(self, values, **options):
        return torch.tensor(values, **{"dtype": self.dtype, "device": GPU} | options)

    def __repr__(self):
        return f"there({self.values})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Generator(torch.Generator):
    """One that says it is there."""

    device = GPU

    def __init__(self):
        _THERE[self._cdata] = self  # operations get it as one of PyTorch's own class


class _AnyGenerator(torch.Generator):
    def __new__(cls, device="cpu"):
        kind = torch.device(device).type
        return _Generator() if kind == GPU.type else _UsualGenerator(device)


_UsualGenerator = torch.Generator
_THERE: dict[int, _Generator] = {}


class _Factories(TorchDispatchMode):
    """Lets functions that make tensors make them on the GPU."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    on_gpu = any(isinstance(t, _There) for t in given)
    asked = kwargs.get("device")
    if on_gpu and func not in _MOVES:
        # a tensor of no axes goes to kernels as a number, and the CPU's may be indices
        apart = [t for t in given if not isinstance(t, _There) and t.dim()]
        if any(t.is_meta for t in apart):
            raise Mixed(f"{func}: an index that is a list has no values here: make it a tensor")
        if apart and func is not _aten.index.Tensor:
            raise Mixed(f"{func}: {tuple(apart[0].shape)} is on the CPU")
    there = on_gpu if asked is None else torch.device(asked).type == GPU.type
    generator = kwargs.get("generator")
    if generator is not None and (generator._cdata in _THERE) != there:
        raise Mixed(f"{func}: the generator is elsewhere")
    values = tree_map(lambda t: t.values if isinstance(t, _There) else t, (args, kwargs))
    if asked is not None:
        values[1]["device"] = "cpu"
    if not on_gpu and not there:
        return func(*args, **kwargs)
    with torch._C._DisableTorchDispatch():
        found = func(*values[0], **values[1])
    wrap = lambda t: _There(t) if isinstance(t, torch.Tensor) and there else t  # noqa: E731
    found = tree_map(wrap, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if on_gpu else found


@contextlib.contextmanager
def pretended():
    """Within it `GPU` has values."""
    usual = torch.tensor, torch.as_tensor, torch.Generator

    def sent(make):  # past the operations
        def run(*given, device=None, **options):
            made = make(*given, **options)
            return made if device is None else made.to(device)

        return run

    torch.tensor, torch.as_tensor = map(sent, usual[:2])
    torch.Generator = _AnyGenerator
    of_optimisers = sys.modules["torch.optim.optimizer"]
    fused = of_optimisers._get_fused_kernels_supported_devices
    of_optimisers._get_fused_kernels_supported_devices = lambda: [GPU.type]
    try:
        with _Factories():
            yield
    finally:
        torch.tensor, torch.as_tensor, torch.Generator = usual
        of_optimisers._get_fused_kernels_supported_devices = fused


def on_gpu(thing):
    """A module (in place) or tensor there."""
    return thing.to(GPU)
