"""Networks that are nothing but products with an activation in between, for kernels to take."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..native.perceptron import Kind


class Plain(NamedTuple):
    """W_L act(... act(W_1 [x, condition] + b_1) ...) + b_L.

    ``tensors`` are W_1, b_1, ..., W_L, b_L: matrices, or a 3x3 kernel, 1x1 kernels, a 3x3 kernel.
    """

    kind: Kind
    tensors: tuple[Tensor, ...]
    condition: Tensor | None = None
