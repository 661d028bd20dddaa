"""Networks may compute in bfloat16 while the state of the flow stays in float32."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..accelerate.autocast import autocast_dtype, with_autocast
from ..accelerate.plain import Plain, by_kernel, has_no_hooks
from ..models.parts import Part
from ..shapes import check_channels, check_condition
from .conditioning import FiLM, concatenate

PRECISIONS = ("fp32", "bf16")


class ConditionerNet(Part, nn.Module):
    """Base of the conditioner networks: (x, c) -> parameters, in a precision of its own.

    A network says what it takes, and refuses the rest with a ShapeError: ``n_in`` channels of x
    (None: not checked), which has one of ``axes`` axes; a condition of ``condition`` channels, a
    vector or, with ``maps``, a map.

    Example:
        >>> isinstance(MLP(4, 6), ConditionerNet)
        True
    """

    precision = "fp32"
    n_in: int | None = None
    axes: tuple[int, ...] = ()
    condition = 0
    how = "concat"
    maps = False
    film: nn.ModuleList | None

    def _takes(self, n_in: int, condition: int, how: str) -> int:
        """Remember what this network takes; returns the channels that reach its first layer."""
        self.n_in, self.condition, self.how = n_in, condition, how
        self.maps = how == "concat" and 4 in self.axes
        return n_in + (condition if how == "concat" else 0)

    def _films(self, n: int, width: int) -> nn.ModuleList | None:
        """For each of ``n`` hidden layers of ``width``, where the condition is taken so."""
        if not self.condition or self.how != "film":
            return None
        return nn.ModuleList(FiLM(self.condition, width) for _ in range(n))

    def _joined(self, x: Tensor, c: Tensor | None) -> Tensor:
        """What reaches the first layer."""
        return concatenate(x, c) if self.condition and self.how == "concat" else x

    def _modulated(self, i: int, h: Tensor, c: Any) -> Tensor:
        """What reaches the activation of hidden layer i."""
        return h if self.film is None else self.film[i](h, c)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        self.check(x, c)
        if run := by_kernel(self, x, c):
            return run(x)
        with self._computing_in(x):
            return self.compute(x, c)

    def repeated(self, x: Tensor, c: Tensor | None) -> Callable[[Tensor], Tensor]:
        """The network as a function of x alone, for many x like this one."""
        if has_no_hooks(self):
            self.check(x, c)
            if run := by_kernel(self, x, c):
                return run
        return lambda x: self(x, c)

    def compute(self, x: Tensor, c: Any, /) -> Tensor:
        raise NotImplementedError

    def as_plain(self, x: Tensor, c: Tensor | None) -> Plain | None:
        """What this network amounts to for inputs like x and condition c, if it is `Plain`.

        x may have other channels besides those that the network takes.
        """
        if not (_computes_plainly(type(self)) and has_no_hooks(self)):
            return None
        self._check_condition(x, c)
        bf16, device = self.precision == "bf16", x.device.type
        asked = autocast_dtype(device)
        if asked not in (None, torch.bfloat16):
            return None
        found = self.plain(x, c)
        if found is None or not (bf16 or asked):
            return found
        return found._replace(kind=found.kind._replace(bf16=True))

    def plain(self, x: Tensor, c: Tensor | None) -> Plain | None:
        """`as_plain` where everything is in float32; by default no network is."""
        return None

    def check(self, x: Tensor, c: Tensor | None) -> None:
        """Raise ShapeError if this network does not take x and c."""
        if self.n_in is not None:
            check_channels(self, x, self.n_in, self.axes)
        self._check_condition(x, c)

    def _check_condition(self, x: Tensor, c: Tensor | None) -> None:
        if self.condition:
            check_condition(self, x, c, self.condition, self.maps)

    def _computing_in(self, x: Tensor):
        if self.precision == "bf16" and x.dtype == torch.float32:
            return with_autocast(x.device.type, torch.bfloat16)
        return contextlib.nullcontext()


@functools.cache
def _computes_plainly(cls: type[ConditionerNet]) -> bool:
    """Whether `plain` still tells what `compute` does: a subclass may have redefined that."""
    definer = {n: next(c for c in cls.__mro__ if n in vars(c)) for n in ("plain", "compute")}
    return (
        cls.forward is ConditionerNet.forward
        and definer["plain"] is not ConditionerNet
        and issubclass(definer["plain"], definer["compute"])
    )


def set_precision(module: nn.Module, precision: str) -> nn.Module:
    """Let every conditioner network in ``module`` compute in ``"fp32"`` or ``"bf16"``.

    bfloat16 takes about a third off a training step of Glow on processors with AVX-512-BF16
    (benchmarks/results/step.md), but inversion then
    holds to 1e-3 .. 5e-2 only: train in it, invert and solve in fp32. Returns ``module``.

    Example:
        >>> net = set_precision(MLP(4, 6), "bf16")
        >>> net(torch.rand(5, 4)).dtype
        torch.bfloat16
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: choose one of {', '.join(PRECISIONS)}")
    for m in module.modules():
        if isinstance(m, ConditionerNet):
            m.precision = precision
    return module
