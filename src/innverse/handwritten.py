"""Gradients written out by hand, where autograd's own would pass over memory too often.

A hand-written `torch.autograd.Function` serves plain reverse mode. Everything else (second
derivatives, forward mode, `torch.func` transforms, `torch.compile`) takes the formula itself, so
each such function keeps its formula beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad


def applies() -> bool:
    """True where a hand-written gradient may stand in for autograd's."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # a trace would keep the numbers of a kernel, not its formula
        or transformed()
        or forward_ad._current_level >= 0
    )


def exporting() -> bool:
    """True while a graph is made for `torch.export` or ONNX."""
    is_exporting = getattr(torch.compiler, "is_exporting", bool)
    return is_exporting() or torch.onnx.is_in_onnx_export()


def transformed() -> bool:
    """True inside a transform of `torch.func`, under which tensors have neither values nor layout."""
    return torch._C._are_functorch_transforms_active()


def exact(
    formula: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of ``formula(*inputs)`` that can be differentiated again (create_graph=True)."""
    if not any(needed):
        return [None] * len(inputs)
    with torch.enable_grad():
        # views, so that an input's dependence on another input is not counted here as well
        inputs = [t.view_as(t) for t in inputs]
        outputs = formula(*inputs)
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
    wanted = [t for t, need in zip(inputs, needed, strict=True) if need]
    found = iter(
        torch.autograd.grad(
            [o for o, _ in pairs],
            wanted,
            [g for _, g in pairs],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if need else None for need in needed]
