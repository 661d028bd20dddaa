"""A flow as a `torch.distributions.Distribution`."""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from ..errors import InputError, ShapeError
from .arguments import as_tensor


class FlowDistribution(Distribution):
    """p(x | c) of one condition, batch shape (), or of many.

    ``c`` is one condition as the flow takes it, or (*batch_shape, *one condition).
    """

    arg_constraints: dict = {}
    has_rsample = True

    def __init__(self, flow, c: Tensor | float | None = None, validate_args: bool | None = None):
        self.flow = flow
        self.c, batch = _conditions(flow, c)
        super().__init__(batch, torch.Size(flow.shape), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.flow.shape))

    def expand(self, batch_shape, _instance=None) -> FlowDistribution:
        new = self._get_checked_instance(FlowDistribution, _instance)
        batch = torch.Size(batch_shape)
        new.flow, new.c = self.flow, self.c
        if self.c is not None:
            one = self.c.shape[len(self.batch_shape) :]
            new.c = self.c.expand(*batch, *one)
        Distribution.__init__(new, batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        events = len(self.event_shape)
        if value.dim() < events:
            raise ShapeError(
                f"value is {tuple(value.shape)}: its last axes are those of x, "
                f"{tuple(self.event_shape)}"
            )
        lead = torch.broadcast_shapes(value.shape[: value.dim() - events], self.batch_shape)
        item = value.shape[value.dim() - events :]
        x = value.expand(*lead, *item).reshape(lead.numel(), *item)
        return self.flow.log_prob(x, self._repeated(lead)).reshape(lead)

    def rsample(self, sample_shape=torch.Size()) -> Tensor:
        lead = torch.Size(sample_shape) + self.batch_shape
        x = self.flow.draw(lead.numel(), self._repeated(lead))
        return x.reshape(*lead, *x.shape[1:])

    def _repeated(self, lead: torch.Size) -> Tensor | None:
        """The conditions of items (lead,), in one axis."""
        if self.c is None:
            return None
        one = self.c.shape[len(self.batch_shape) :]
        if not self.batch_shape:
            return self.c if self.flow.noise is not None else self.c[None]
        return self.c.expand(*lead, *one).reshape(lead.numel(), *one)


def _conditions(flow, c) -> tuple[Tensor | None, torch.Size]:
    """c as (*batch, *one condition), and the batch shape."""
    if flow.noise is None and c is None and not flow.condition:
        return None, torch.Size()
    if c is None or (flow.noise is None and not flow.condition):
        # the flow knows what is missing or too much
        flow._condition(c, torch.empty(0))
        raise InputError("this flow takes no condition: leave c out")
    c = as_tensor(c, "the condition c")
    if flow.noise is not None:  # one number a condition
        c = c.squeeze(-1) if c.dim() > 1 and c.shape[-1] == 1 else c
        return c, c.shape
    k, maps = flow.condition, flow.maps and len(flow.shape) == 3
    if maps and c.dim() >= 3 and c.shape[-3] == k:
        return c, torch.Size(c.shape[:-3])
    if c.dim() and c.shape[-1] == k:
        return c, torch.Size(c.shape[:-1])
    if k == 1:
        return c[..., None], c.shape
    kinds = f"(..., {k})" + f" or (..., {k}, h, w)" * maps
    raise ShapeError(f"the condition c of this flow is {kinds}, got {tuple(c.shape)}")


def distribution_of(flow, c) -> FlowDistribution:
    """`FlowDistribution`, which Pyro can sample where it is loaded."""
    kind = FlowDistribution
    if "pyro.distributions.torch_distribution" in sys.modules:
        mixin = sys.modules["pyro.distributions.torch_distribution"].TorchDistributionMixin
        kind = _with(mixin)
    return kind(flow, c)


@functools.cache
def _with(mixin: Any) -> type[FlowDistribution]:
    """A distribution that has Pyro's methods too (``mask``, ``to_event``, a call that samples)."""

    class FlowDistributionOfPyro(FlowDistribution, mixin):
        def expand(self, batch_shape, _instance=None):
            new = self._get_checked_instance(FlowDistributionOfPyro, _instance)
            return super().expand(batch_shape, new)

    return FlowDistributionOfPyro
