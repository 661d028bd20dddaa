"""All that innverse uses of PyTorch beyond its public interface, in one place.

A name that a version of PyTorch lacks is replaced by public operations that give the same numbers,
only slower; `tests/test_torch_private.py` takes the names away to hold that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
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
_LINEAR = find("ops.mkldnn._linear_pointwise")
_SOFTMAX_BACKWARD = find("_softmax_backward_data")
_THRESHOLD_BACKWARD = find("ops.aten.threshold_backward.grad_input")
_SILU_BACKWARD = find("ops.aten.silu_backward")
_GELU_BACKWARD = find("ops.aten.gelu_backward")
_CONVOLUTION_BACKWARD = find("ops.aten.convolution_backward")
_NORMS = find("_foreach_norm")
_MUL_ = find("_foreach_mul_")
_LERP_ = find("_foreach_lerp_")


# ---- what autograd is about to do ------------------------------------------------------------


def plain_reverse_mode() -> bool:
    """False where forward mode or a `torch.func` transform is at work, or where nobody can tell."""
    level = getattr(forward_ad, "_current_level", 0)
    return _TRANSFORMS_ACTIVE is not None and level < 0 and not _TRANSFORMS_ACTIVE()


def transforms_active() -> bool:
    """True inside a transform of `torch.func`."""
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


# ---- products --------------------------------------------------------------------------------


def linear(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """x W^T + b for float32 (B, n) on the processor, by oneDNN where it is to be had."""
    if _LINEAR is not None and torch.backends.mkldnn.enabled:
        return _LINEAR(x, w, b, "none", [], "")
    return F.linear(x, w, b)


# ---- gradients of single operations ----------------------------------------------------------


def softmax_backward(g: Tensor, softmax: Tensor, dim: int) -> Tensor:
    """The gradient of the argument of a softmax."""
    if _SOFTMAX_BACKWARD is not None:
        return _SOFTMAX_BACKWARD(g, softmax, dim, softmax.dtype)
    return softmax * (g - (g * softmax).sum(dim, keepdim=True))


def relu_backward_(g: Tensor, h: Tensor) -> Tensor:
    """The gradient through ReLU, written over ``g``; ``h`` is its argument or its result."""
    if _THRESHOLD_BACKWARD is not None:
        return _THRESHOLD_BACKWARD(g, h, 0, grad_input=g)
    return g.masked_fill_(h <= 0, 0)


def silu_backward(g: Tensor, h: Tensor) -> Tensor:
    if _SILU_BACKWARD is not None:
        return _SILU_BACKWARD(g, h)
    return _by_autograd(F.silu, g, h)


def gelu_backward(g: Tensor, h: Tensor) -> Tensor:
    if _GELU_BACKWARD is not None:
        return _GELU_BACKWARD(g, h)
    return _by_autograd(F.gelu, g, h)


def conv2d_backward(
    g: Tensor, x: Tensor, w: Tensor, padding: int, need_x: bool, need_w: bool
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of x and w in ``F.conv2d(x, w, padding=padding)``."""
    if _CONVOLUTION_BACKWARD is not None:
        pad, one = [padding, padding], [1, 1]
        g_x, g_w, _ = _CONVOLUTION_BACKWARD(
            g, x, w, None, one, pad, one, False, [0, 0], 1, [need_x, need_w, False]
        )
        return g_x, g_w
    with torch.enable_grad():
        x, w = x.detach().requires_grad_(need_x), w.detach().requires_grad_(need_w)
        out = F.conv2d(x, w, padding=padding)
    wanted = [t for t in (x, w) if t.requires_grad]
    found = iter(torch.autograd.grad(out, wanted, g) if wanted else ())
    return next(found) if need_x else None, next(found) if need_w else None


def _by_autograd(function: Callable[[Tensor], Tensor], g: Tensor, h: Tensor) -> Tensor:
    with torch.enable_grad():
        h = h.detach().requires_grad_()
        (found,) = torch.autograd.grad(function(h), h, g)
    return found


# ---- lists of tensors ------------------------------------------------------------------------


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The 2-norm of each."""
    return _NORMS(tensors) if _NORMS is not None else [t.norm() for t in tensors]


@torch.no_grad()
def scale_(tensors: Sequence[Tensor], factor: float) -> None:
    if _MUL_ is not None:
        return _MUL_(tensors, factor)
    for t in tensors:
        t.mul_(factor)


@torch.no_grad()
def move_towards_(tensors: Sequence[Tensor], goals: Sequence[Tensor], weight: float) -> None:
    """t + weight (goal - t) in place of each t."""
    if _LERP_ is not None:
        return _LERP_(tensors, goals, weight)
    for t, goal in zip(tensors, goals, strict=True):
        t.lerp_(goal, weight)
