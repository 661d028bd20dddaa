"""Gradients written out by hand, where autograd's own would pass over memory too often.

A hand-written `torch.autograd.Function` serves plain reverse mode. Everything else (second
derivatives, forward mode, `torch.func` transforms, `torch.compile`, tracing) takes the formula
itself, so each such function keeps its formula beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .. import torch_private
from .autocast import autocast_dtype, without_autocast


def applies() -> bool:
    """True where a hand-written gradient may stand in for autograd's."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or not torch_private.plain_reverse_mode()
    )


def exporting() -> bool:
    """True while a graph is made for `torch.export` or ONNX."""
    is_exporting = getattr(torch.compiler, "is_exporting", bool)
    return is_exporting() or torch.onnx.is_in_onnx_export()


def wants_formula(*gradients: Tensor) -> bool:
    """Whether a backward pass must be differentiable itself, or is run by a transform (or for a
    batch of ``gradients``, by is_grads_batched)."""
    return torch.is_grad_enabled() or not applies() or any(map(torch_private.is_batched, gradients))


def in_given_types(method: Callable) -> Callable:
    """``forward`` or ``backward`` of a hand-written function, run outside autocast.

    The tensors come in the type to compute in. Autocast would promote some of the operations, and
    which ones depends on the device: what `exp` gives is float32 on GPUs and bfloat16 elsewhere.
    """

    @functools.wraps(method)
    def run(ctx, *arguments):
        device = next(a.device.type for a in arguments if isinstance(a, Tensor))
        if autocast_dtype(device) is None:
            return method(ctx, *arguments)
        with without_autocast(device):
            return method(ctx, *arguments)

    return run


def exact(
    formula: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    gradients: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of ``formula(*inputs)``, which with create_graph=True can be differentiated again;
    an input may be None."""
    if not any(needed):
        return [None] * len(inputs)
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # views, so that an input's dependence on another input is not counted here as well
        inputs = [t if t is None else t.view_as(t) for t in inputs]
        outputs = formula(*inputs)
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
    outputs, gradients = [o for o, _ in pairs], [g for _, g in pairs]
    wanted = [t for t, need in zip(inputs, needed, strict=True) if t is not None and need]
    options = {"create_graph": create_graph, "allow_unused": True}
    found = iter(torch.autograd.grad(outputs, wanted, gradients, **options))
    return [next(found) if need else None for need in needed]
