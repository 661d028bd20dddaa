"""A flow as a `torch.distributions.Distribution`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


class FlowDistribution(Distribution):
    """p(x | c): ``batch_shape`` is () without a condition, (B,) with c of shape (B, k)."""

    arg_constraints: dict = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, flow, c: Tensor | None = None):
        self.flow, self.c = flow, c
        batch = torch.Size() if c is None else torch.Size(c.shape[:1])
        super().__init__(batch, torch.Size(flow.shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        full = value.expand(self._full_shape(value))
        x = full.reshape(-1, *self.event_shape)
        return self.flow.log_prob(x, self._conditions(x)).reshape(self._lead(full))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        like = next(self.flow.parameters())
        z = torch.randn(shape, dtype=like.dtype, device=like.device)
        z = z.reshape(-1, *self.event_shape)
        return self.flow.decode(z, self._conditions(z)).reshape(shape)

    def _full_shape(self, value: Tensor) -> torch.Size:
        return torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)

    def _lead(self, full: Tensor) -> torch.Size:
        return full.shape[: full.dim() - len(self.event_shape)]

    def _conditions(self, x: Tensor) -> Tensor | None:
        if self.c is None:
            return None
        return self.c.repeat(len(x) // len(self.c), *[1] * (self.c.dim() - 1))
