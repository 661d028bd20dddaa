"""Maps z = W x + b that act alike at every position: one matrix, so neighbours fold into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..accelerate.autocast import without_autocast
from ..accelerate.matrices import Matrix, apply_matrix, both_ways, per_item
from .base import Bijection


class ChannelLinear(Bijection):
    """z = W x + b on the channels of (B, C, *space).

    A subclass gives ``arguments()``, its tensors, and ``formula(*arguments) -> (W, b, logabsdet)``,
    with W of shape (..., C, C), or (..., C) for a diagonal, b of shape (..., C), and log|det W| of
    shape (...); the leading dimensions let a chain evaluate its layers in one batch. And
    ``inverse_matrix() -> W^-1`` without them (float64 is welcome: it is rounded once, when
    applied). The log-determinant of an image is log|det W| times its number of pixels.

    Example:
        >>> isinstance(Permute(4), ChannelLinear), isinstance(ActNorm(4), ChannelLinear)
        (True, True)
    """

    def arguments(self) -> tuple[Tensor, ...]:
        raise NotImplementedError

    formula: Callable[..., Matrix]  # a static method

    def matrix(self) -> Matrix:
        """W, b and log|det W| of this layer."""
        return self.formula(*self.arguments())

    def inverse_matrix(self) -> Tensor:
        raise NotImplementedError

    @property
    def parts(self) -> Sequence[ChannelLinear]:
        """The layers whose product this is."""
        return (self,)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with without_autocast(x.device.type):
            w, b, logabsdet = self.matrix()
        return apply_matrix(w, b, x), per_item(logabsdet, x)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        (_, _, logabsdet), w, b = both_ways(self)
        return apply_matrix(w, b, z), -per_item(logabsdet, z)
