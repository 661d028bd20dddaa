"""All that innverse uses of PyTorch beyond its public interface, in one place.

A name that a version of PyTorch lacks is replaced by public operations that give the same numbers,
only slower; `tests/test_torch_private.py` takes the names away to hold that.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def find(path: str, root: Any = torch) -> Callable | None:
    """What ``root`` has at ``path`` ("_C._name"), or None."""
    for name in path.split("."):
        root = getattr(root, name, None)
    return root


_TRANSFORMS_ACTIVE = find("_C._are_functorch_transforms_active")
_IS_BATCHED = find("_C._functorch.is_legacy_batchedtensor")
_MODES = find("_C._len_torch_dispatch_stack")
_SOFTMAX_BACKWARD = find("_softmax_backward_data")
_NORMS = find("_foreach_norm")
_MUL_ = find("_foreach_mul_")
_LERP_ = find("_foreach_lerp_")
_SUB, _ADD_ = find("_foreach_sub"), find("_foreach_add_")


# ---- what autograd is about to do ------------------------------------------------------------


def plain_reverse_mode() -> bool:
    """False where forward mode or a `torch.func` transform is at work, or where nobody can tell."""
    level = getattr(forward_ad, "_current_level", 0)
    return _TRANSFORMS_ACTIVE is not None and level < 0 and not _TRANSFORMS_ACTIVE()


def transforms_active() -> bool:
    """True inside a transform of `torch.func`, under which tensors have neither values nor layout."""
    return _TRANSFORMS_ACTIVE is not None and _TRANSFORMS_ACTIVE()


def is_batched(t: Tensor) -> bool:
    """Whether t stands for many gradients at once (``is_grads_batched``)."""
    return _IS_BATCHED is not None and _IS_BATCHED(t)


def modes_of_dispatch() -> int:
    """How many modes take part in all operations (fake tensors, counters of operations)."""
    return 0 if _MODES is None else _MODES()


def compiles_one_graph() -> bool | None:
    """Whether the compiler, while it traces, was asked for one graph (fullgraph=True, an export);
    None where it does not say."""
    try:
        from torch._dynamo.symbolic_convert import InstructionTranslator

        return bool(InstructionTranslator.current_tx().one_graph)
    except (ImportError, AttributeError):
        return None


def constant_while_compiling(function: Any) -> Any:
    """What `torch.compiler.assume_constant_result` does, without importing the compiler."""
    function._dynamo_marked_constant = True
    return function


def leave_pool(device: torch.device, pool: Any) -> None:
    """End a record of a CUDA graph that failed, for the allocator: memory is no longer taken from the
    ``pool`` of it, and what was taken is free."""
    for name in ("_C._cuda_endAllocateToPool", "_C._cuda_releasePool"):
        if (end := find(name)) is not None:
            try:
                end(torch.device(device).index or 0, pool)
            except (RuntimeError, TypeError):  # it had not begun, or takes something else by now
                return


@contextlib.contextmanager
def compiler_leaves_no_trace() -> Generator[None]:
    """Around `torch.compile`, and the first call of what it made: its advice is kept from users, and
    distributions go on checking what they are given, which it switches off for the whole process."""
    checks = getattr(torch.distributions.Distribution, "_validate_args", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            if checks is not None:
                torch.distributions.Distribution.set_default_validate_args(checks)


def has_triton() -> bool:
    """Whether `torch.compile` has what it makes kernels of for this GPU; True where nobody can tell."""
    try:
        from torch.utils._triton import has_triton as known
    except ImportError:
        return True
    return bool(known())


# ---- single operations -----------------------------------------------------------------------


def softmax_backward(g: Tensor, softmax: Tensor, dim: int) -> Tensor:
    """The gradient of the argument of a softmax."""
    if _SOFTMAX_BACKWARD is not None:
        return _SOFTMAX_BACKWARD(g, softmax, dim, softmax.dtype)
    return softmax * (g - (g * softmax).sum(dim, keepdim=True))


# ---- lists of tensors ------------------------------------------------------------------------


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The 2-norm of each."""
    return _NORMS(tensors) if _NORMS is not None else [t.norm() for t in tensors]


@torch.no_grad()
def scale_(tensors: Sequence[Tensor], factor: float | Tensor) -> None:
    if _MUL_ is not None:
        return _MUL_(tensors, factor)
    for t in tensors:
        t.mul_(factor)


@torch.no_grad()
def move_towards_(
    tensors: Sequence[Tensor], goals: Sequence[Tensor], weight: float | Tensor
) -> None:
    """t + weight (goal - t) in place of each t."""
    if isinstance(weight, Tensor):  # of which the one-line version knows none for all
        if _SUB is not None and _ADD_ is not None:
            steps = _SUB(goals, tensors)
            scale_(steps, weight)
            return _ADD_(tensors, steps)
    elif _LERP_ is not None:
        return _LERP_(tensors, goals, weight)
    for t, goal in zip(tensors, goals, strict=True):
        t.lerp_(goal, weight)


# ---- optimisers ------------------------------------------------------------------------------


@torch.no_grad()
def step_unless(optimizer: Any, refused: Tensor) -> None:
    """A step of a fused optimiser, or where ``refused`` (a bool on its device) holds none: weights and
    moments stay as they are. It is what `torch.amp.GradScaler` does with gradients that overflow."""
    optimizer.found_inf = refused.float()
    optimizer.step()
