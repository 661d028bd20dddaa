"""Networks may compute in bfloat16 while the state of the flow stays in float32."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from .plain import Plain

PRECISIONS = ("fp32", "bf16")


class ConditionerNet(nn.Module):
    """Base of the conditioner networks: (x, c) -> parameters, in a precision of its own."""

    precision = "fp32"

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        with self._computing_in(x):
            return self.compute(x, c)

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        raise NotImplementedError

    def as_plain(self, x: Tensor, c: Tensor | None) -> Plain | None:
        """What this network amounts to for inputs like x and condition c, if it is `Plain`."""
        bf16, device = self.precision == "bf16", x.device.type
        if autocasts(device):
            bf16 = True
            if torch.get_autocast_dtype(device) != torch.bfloat16:
                return None
        found = self.plain(x, c)
        return found and found._replace(kind=found.kind._replace(bf16=bf16))

    def plain(self, x: Tensor, c: Tensor | None) -> Plain | None:
        """`as_plain` where everything is in float32; by default no network is."""
        return None

    def _computing_in(self, x: Tensor):
        if self.precision == "bf16" and x.dtype == torch.float32:
            return torch.autocast(x.device.type, torch.bfloat16)
        return contextlib.nullcontext()


def without_autocast(like: Tensor) -> contextlib.AbstractContextManager:
    """Full precision, whatever autocast the caller is under, on the device of ``like``."""
    device = like.device.type
    if device == "meta":  # which has no autocast
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


def autocasts(device: str) -> bool:
    """Whether autocast is on for this type of device."""
    return device != "meta" and torch.is_autocast_enabled(device)


def in_autocast_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """``tensors`` in the type that autocast asks for here, or as they are; keeps the graph."""
    device = tensors[0].device.type
    if not autocasts(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(t.to(dtype) for t in tensors)


def set_precision(module: nn.Module, precision: str) -> nn.Module:
    """Let every conditioner network in ``module`` compute in ``"fp32"`` or ``"bf16"``.

    bfloat16 takes about a third off a training step of Glow on processors with AVX-512-BF16
    (benchmarks/results/step.md), but inversion then
    holds to 1e-3 .. 5e-2 only: train in it, invert and solve in fp32. Returns ``module``.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: choose one of {', '.join(PRECISIONS)}")
    for m in module.modules():
        if isinstance(m, ConditionerNet):
            m.precision = precision
    return module
