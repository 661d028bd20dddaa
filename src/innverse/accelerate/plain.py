"""Networks that are nothing but products with an activation in between, for kernels to take.

Kernels read weights past the modules that hold them. They may do so only where calling the modules
would do nothing else: what was put in a layer's place (LoRA, quantisation), hooks, and layers with
other settings are called as modules instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _module

from . import handwritten
from .native import bfloat16, memory, perceptron
from .native.perceptron import Kind


class Plain(NamedTuple):
    """W_L act(... act(W_1 [x, condition] + b_1) ...) + b_L.

    ``tensors`` are W_1, b_1, ..., W_L, b_L: matrices, or a 3x3 kernel, 1x1 kernels, a 3x3 kernel.
    """

    kind: Kind
    tensors: tuple[Tensor, ...]
    condition: Tensor | None = None
    weights: perceptron.Weights | None = None  # the tensors, once a kernel is known to serve them


_any_global_hook = getattr(_module, "_has_any_global_hook", lambda: False)


def served_by_kernel(net: Any, x: Tensor, c: Tensor | None, channels: int) -> Plain | None:
    """What ``net`` amounts to for ``channels`` of the channels of x, if the kernel serves it."""
    if (found := net.as_plain(x, c)) is None:
        return None
    kind, tensors, condition, _ = found
    if condition is not None:
        if not memory.plain(condition):
            return None
        channels += condition.shape[1]
    weights = perceptron.applies(x, kind, tensors, channels)
    if weights is None or (kind.bf16 and not bfloat16.is_worth_it(kind, x, weights.sizes)):
        return None
    return Plain(kind, tensors, condition, weights)


def by_kernel(net: Any, x: Tensor, c: Tensor | None) -> Callable[[Tensor], Tensor] | None:
    """``lambda x: net(x, c)`` for x like this one, each time one node of the graph, if
    ``net.as_plain`` says that it is `Plain` and a kernel serves it. What is made of the weights is
    made once. Differentiable twice, by its formula."""
    applies = handwritten.applies() and memory.plain(x)
    if not applies or (found := served_by_kernel(net, x, c, x.shape[1])) is None:
        return None
    kind, tensors, condition, weights = found

    def run(x: Tensor) -> Tensor:
        x = x if condition is None else torch.cat((x, condition), 1)
        y = perceptron.apply(x, kind, *tensors, weights=weights)
        return y.to(torch.bfloat16) if kind.bf16 else y

    return run


def is_itself(module: Any, kind: type) -> bool:
    """Whether calling ``module`` is what the class ``kind`` says, and nothing more."""
    return type(module) is kind and has_no_hooks(module)


def has_no_hooks(module: nn.Module) -> bool:
    """Whether nothing was put between a call of ``module`` and its class's ``forward``."""
    held = module.__dict__  # nn.Module looks attributes up slowly, and this is asked at every call
    return not (
        held["_forward_hooks"]
        or held["_forward_pre_hooks"]
        or held["_backward_hooks"]
        or held["_backward_pre_hooks"]
        or "forward" in held
        or _any_global_hook()
    )


def is_linear(layer: Any) -> bool:
    """Whether ``layer`` is x -> W x + b with its own ``weight`` and ``bias``."""
    return is_itself(layer, nn.Linear) and layer._parameters.get("bias") is not None


def is_convolution(layer: Any, side: int, kind: type = nn.Conv2d) -> bool:
    """Whether ``layer`` is the convolution of images of any size by a kernel of this side, with a
    bias, and zeros beyond the border."""
    return (
        is_itself(layer, kind)
        and layer.bias is not None
        and layer.kernel_size == (side, side)
        and layer.padding == (side // 2, side // 2)
        and layer.stride == layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
    )


def is_activation(layer: Any, kind: type) -> bool:
    """Whether ``layer`` is the activation of this class, in its standard form."""
    return is_itself(layer, kind) and layer.__dict__.get("approximate", "none") == "none"


def matrix_and_bias(layer: Any, n_in: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """W and b of a layer x -> W x + b of vectors, read off its answers where it is not `is_linear`."""
    if is_linear(layer):
        return layer.weight, layer.bias
    unit = torch.eye(n_in, dtype=like.dtype, device=like.device)
    bias = layer(torch.zeros_like(unit[:1]))
    return (layer(unit) - bias).mT, bias[0]
