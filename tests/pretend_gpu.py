"""A GPU played by the CPU: tensors that say they are on "cuda:0", and have their values.

`absent_gpu` has no values, so it cannot run what decides by them. Here whole calls run (a solve, a
training), all that innverse does for CUDA alone included: graphs are recorded and replayed, regions are
what a compiler would be given, convolutions keep 10 bits (TF32), the device has random numbers of its
own. What raises on a GPU raises here: tensors of the GPU with tensors of the CPU, generators of the
CPU, NumPy, and within a record all that waits or copies. PyTorch's C++ takes the tensors for ones of
the meta device, which needs no driver.
"""

from __future__ import annotations

import contextlib
import sys
import types
import warnings
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

import absent_gpu
from innverse import torch_private
from innverse.accelerate import regions

GPU = torch.device("cuda", 0)

_aten = torch.ops.aten
_MOVES = {_aten._to_copy.default, _aten.copy_.default}
_BY_INDEX = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default}
# which read numbers off the device, whatever their tags say
_WAIT = {
    _aten._linalg_check_errors.default, _aten._linalg_eigh.default, _aten._linalg_svd.default,
    _aten.bincount.default, _aten.equal.default, _aten.linalg_eig.default, _aten.linalg_lstsq.default,
}  # fmt: skip
# whose arguments may be one number of the CPU
_TAKE_NUMBERS = {
    _aten.fill_.Tensor, _aten.masked_fill.Tensor, _aten.masked_fill_.Tensor, _aten._foreach_mul_.Tensor,
    _aten.index_put.default, _aten.index_put_.default,
}  # fmt: skip
_CONVOLUTIONS = {_aten.convolution.default: 2, _aten.convolution_backward.default: 3}
_PRODUCTS = {_aten.mm.default, _aten.bmm.default, _aten.addmm.default, _aten.baddbmm.default}


# operations within one of a subclass do not see that a view is the conjugate
_MADE = {
    _aten._conj.default: _aten._conj_physical.default,
    _aten._neg_view.default: _aten.neg.default,
}


class Mixed(RuntimeError):
    """Tensors on different devices."""


def _is_there(device: object) -> bool:
    return torch.device(device).type in ("cuda", "meta")


def _wait(what: object) -> None:
    """What waits for the device ends a record; else it is told to who asked to be warned."""
    if _Now.record is not None:
        raise RuntimeError(f"operation not permitted when stream is capturing: {what}")
    if _Now.warned:
        warnings.warn(f"called a synchronizing CUDA operation: {what}", stacklevel=2)


class _Now:
    """The state of the pretended device."""

    record: absent_gpu._Recording | None = None
    warned = 0  # torch.cuda.set_sync_debug_mode
    random: torch.Tensor  # the state of its global generator


# ---- tensors -------------------------------------------------------------------------------------


class _There(torch.Tensor):
    """A tensor that says it is on the GPU."""

    device, is_cuda, is_cpu, is_meta = GPU, True, False, False
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: torch.Tensor):
        if values.layout != torch.strided:
            shape = values.shape
            return torch.Tensor._make_wrapper_subclass(
                cls, shape, dtype=values.dtype, device="meta"
            )
        return torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device="meta",
        )

    def __init__(self, values: torch.Tensor):
        self.values = values

    def _read(name):
        return lambda self, *given: getattr(self.cpu(), name)(*given)

    # which never reach the operations of a subclass
    tolist, item, __bool__, __float__, __int__ = map(
        _read, ("tolist", "item", "__bool__", "__float__", "__int__")
    )
    __index__, is_nonzero, __format__ = map(_read, ("__index__", "is_nonzero", "__format__"))

    def get_device(self) -> int:
        return 0

    def numpy(self, **_):
        raise TypeError("can't convert cuda:0 device type tensor to numpy: use Tensor.cpu()")

    def __array__(self, *_, **__):
        return self.numpy()

    def new_tensor(self, values, **options):
        return torch.tensor(values, **{"dtype": self.dtype, "device": GPU} | options)

    def __repr__(self):
        return f"there({self.values})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


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
    there = on_gpu if asked is None else _is_there(asked)
    if not on_gpu and not there:
        return func(*args, **kwargs)
    if on_gpu and func not in _MOVES:
        _together(func, args, [t for t in given if not isinstance(t, _There)])
    generator = kwargs.get("generator")
    if generator is not None and (generator._cdata in _THERE) != there:
        raise Mixed(f"{func}: the generator is elsewhere")
    if _waits(func, args, kwargs, given, there):
        _wait(func)
    values = tree_map(lambda t: t.values if isinstance(t, _There) else t, (args, kwargs))
    if asked is not None:
        values[1]["device"] = "cpu"
    with torch._C._DisableTorchDispatch():
        if _Now.record is None or not there:
            found = _execute(func, *values)
        else:
            found = _Now.record.__torch_dispatch__(func, (), *values)
    wrap = lambda t: _There(t) if isinstance(t, torch.Tensor) and there else t  # noqa: E731
    found = tree_map(wrap, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if on_gpu else found


def _together(func, args, apart: list[torch.Tensor]) -> None:
    """Raise unless this operation of the GPU takes these tensors of the CPU."""
    if any(t.is_meta for t in apart):
        raise Mixed(f"{func}: an index that is a list has no values here: make it a tensor")
    if func in _BY_INDEX and isinstance(args[0], _There):  # indices are sent, at a price
        apart = [t for t in apart if not any(t is index for index in args[1])]
    for t in apart:
        # of no axes it goes to element-wise kernels as a number
        number = t.dim() == 0 and (torch.Tag.pointwise in func.tags or func in _TAKE_NUMBERS)
        if not number:
            raise Mixed(f"{func}: {tuple(t.shape)} is on the CPU")


def _waits(func, args, kwargs, given, there: bool) -> bool:
    if func in _MOVES:
        places = {isinstance(t, _There) for t in given}
        if func is not _aten.copy_.default:
            places.add(there)
        # pinned memory is sent while Python goes on
        sent = kwargs.get("non_blocking") and any(getattr(t, "is_sent", False) for t in given)
        return len(places) > 1 and not sent
    if func in _BY_INDEX:
        masks = any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
        return masks or any(t is not None and not isinstance(t, _There) for t in args[1])
    depends = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & {*func.tags}
    return bool(depends) or func in _WAIT


def _execute(func, args, kwargs):
    """On the CPU what the GPU would do."""
    func = _MADE.get(func, func)
    if func in _CONVOLUTIONS and torch.backends.cudnn.allow_tf32:
        n = _CONVOLUTIONS[func]
        args = (*map(_ten_bits, args[:n]), *args[n:])
    elif func in _PRODUCTS and torch.backends.cuda.matmul.allow_tf32:
        args = tuple(map(_ten_bits, args))
    if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
        return func(*args, **kwargs)
    before = torch.default_generator.get_state()
    torch.default_generator.set_state(_Now.random)
    try:
        return func(*args, **kwargs)
    finally:
        _Now.random = torch.default_generator.get_state()
        torch.default_generator.set_state(before)


def _ten_bits(t):
    """Float32 as TF32 keeps it."""
    if not isinstance(t, torch.Tensor) or t.dtype != torch.float32:
        return t
    t = t.clone()
    t.view(torch.int32).add_(0x1000).bitwise_and_(~0x1FFF)
    return t


# ---- torch.cuda ----------------------------------------------------------------------------------


class _Generator(torch.Generator):
    """One that says it is there."""

    device = GPU

    def __init__(self):
        _THERE[self._cdata] = self  # operations get it as one of PyTorch's own class


class _AnyGenerator(torch.Generator):
    def __new__(cls, device="cpu"):
        return _Generator() if _is_there(device) else _UsualGenerator(device)


_UsualGenerator = torch.Generator
_THERE: dict[int, _Generator] = {}


class _Record(absent_gpu._Recording):
    """Of the operations on the device."""

    run = staticmethod(_execute)

    def __init__(self):
        super().__init__()
        self.random = _Now.random

    def undo(self) -> None:
        super().undo()
        _Now.random = self.random


class _Graph:
    replay = None


@contextlib.contextmanager
def _graph(graph, pool=None, stream=None, capture_error_mode="global"):
    """`torch.cuda.graph`."""
    recording = _Now.record = _Record()
    try:
        yield
    finally:
        _Now.record = None
        with torch._C._DisableTorchDispatch():
            recording.undo()
    _Graphs.made += 1

    def replay() -> None:
        _Graphs.replays += 1
        with torch._C._DisableTorchDispatch():
            recording.replay()

    graph.replay = replay


class _Graphs:
    """How many were made, and run."""

    made = replays = 0


class _Stream:
    def __init__(self, *_):
        pass

    def wait_stream(self, other) -> None:
        pass


def _seed(seed: int) -> None:
    _Now.random = _UsualGenerator().manual_seed(seed).get_state()


def _warn(mode) -> None:
    _Now.warned = mode


def _pinned(t: torch.Tensor) -> torch.Tensor:
    t.is_sent = True
    return t


_usual_to = torch.Tensor.to


def _to(t: torch.Tensor, *args, copy=False, **kwargs) -> torch.Tensor:
    """`torch.Tensor.to`: PyTorch's C++ would ask the driver which "cuda" is meant."""
    device, dtype, late, layout = torch._C._nn._parse_to(*args, **kwargs)
    options = {"dtype": dtype or t.dtype, "non_blocking": late, "copy": copy}
    if layout is not None:
        options["memory_format"] = layout
    if device is not None and isinstance(t, _There) != _is_there(device):
        options["device"] = "meta" if _is_there(device) else device
    return _usual_to(t, **options)


_PROPERTIES = types.SimpleNamespace(
    total_memory=80 << 30, multi_processor_count=132, major=9, minor=0, name="pretended GPU"
)
_CUDA = {
    "_lazy_init": lambda: None,
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "is_bf16_supported": lambda *_: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_name": lambda *_: "pretended GPU",
    "get_device_capability": lambda *_: (9, 0),
    "get_device_properties": lambda *_: _PROPERTIES,
    "mem_get_info": lambda *_: (60 << 30, 80 << 30),
    "device": lambda *_: contextlib.nullcontext(),
    "synchronize": lambda *_: None,
    "empty_cache": lambda: None,
    "manual_seed": _seed,
    "manual_seed_all": _seed,
    "get_rng_state": lambda *_: _Now.random,
    "set_rng_state": lambda state, *_: setattr(_Now, "random", state),
    "Stream": _Stream,
    "stream": lambda *_: contextlib.nullcontext(),
    "current_stream": lambda *_: _Stream(),
    "set_stream": lambda *_: None,
    "CUDAGraph": _Graph,
    "graph": _graph,
    "graph_pool_handle": lambda: (0, 0),
    "is_current_stream_capturing": lambda: _Now.record is not None,
    "get_sync_debug_mode": lambda: _Now.warned,
    "set_sync_debug_mode": _warn,
}


@contextlib.contextmanager
def pretended(*, least: int = 1):
    """Within it `GPU` is there, and has values; regions serve tensors from ``least`` numbers.

    Gives the counts of graphs that were ``made``, and of ``replays``.
    """

    def sent(make):  # past the operations
        def run(*given, device=None, **options):
            made = make(*given, **options)
            return made if device is None else made.to(device)

        return run

    _seed(20)
    _Graphs.made = _Graphs.replays = 0
    own = {"_compile": lambda function, name: function, "_lacking": lambda: None, "_LEAST": least}
    outside = torch_private.modes_of_dispatch
    makers = {name: sent(getattr(torch, name)) for name in ("tensor", "as_tensor", "asarray")}
    with contextlib.ExitStack() as stack:
        for owner, changes in (
            (torch.cuda, _CUDA),
            (torch, makers | {"Generator": _AnyGenerator}),
            (
                torch.Tensor,
                {"pin_memory": _pinned, "to": _to, "cuda": lambda t, *_, **__: _to(t, GPU)},
            ),
            (regions, own),
            (torch_private, {"modes_of_dispatch": lambda: outside() - 1}),
        ):
            stack.enter_context(mock.patch.multiple(owner, **changes))
        of_optimisers = sys.modules["torch.optim.optimizer"]
        supported = {"_get_fused_kernels_supported_devices": lambda: ["cuda", "meta"]}
        stack.enter_context(mock.patch.multiple(of_optimisers, **supported))
        regions._of.cache_clear()
        stack.callback(regions._of.cache_clear)
        stack.enter_context(_Factories())
        yield _Graphs
