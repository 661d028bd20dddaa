"""Maps z = W x + b that act alike at every position: one matrix, so neighbours fold into one."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import handwritten
from ..autocast import without_autocast
from ..errors import ShapeError
from ..nets.layout import is_channels_last
from .base import Bijection

Matrix = tuple[Tensor, Tensor, Tensor]  # W, b, log|det W|

_FEW = 64  # channels up to which a matrix product beats a convolution with a 1x1 kernel
_CONV = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


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

    @staticmethod
    def formula(*arguments: Tensor) -> Matrix:
        raise NotImplementedError

    def matrix(self) -> Matrix:
        """W, b and log|det W| of this layer."""
        return self.formula(*self.arguments())

    def inverse_matrix(self) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return forward_by(self._matrices(inverse=False), x)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inverse_by(self._matrices(inverse=True), z)

    def _matrices(self, inverse: bool):
        """W, b, log|det W| and, if asked for, W^-1 and -W^-1 b; kept while nothing changes."""
        if not self.can_cache():
            return self._compute(inverse)
        state = self._state()
        cached = self.__dict__.get("_cache")
        if cached is None or not _same(state, cached[0]):
            cached = ([t.clone() for t in state], self.both_ways())
            self.__dict__["_cache"] = cached
        return cached[1]

    def both_ways(self):
        """(W, b, log|det W|), W^-1 and -W^-1 b, to be kept."""
        with torch.inference_mode(False), torch.no_grad():
            return self._compute(inverse=True)

    def can_cache(self) -> bool:
        """Whether W may be kept between calls: in eval mode, when no gradient reaches it."""
        return can_keep(self.parts, self._state())

    def _compute(self, inverse: bool):
        with without_autocast(self._state()[0].device.type):
            forward = w, b, _ = self.matrix()
            if not inverse:
                return forward, None, None
            w_inv = self.inverse_matrix().double()
            return forward, w_inv.to(w.dtype), -_act(w_inv, b.double()).to(b.dtype)

    def _state(self) -> list[Tensor]:
        return [t for part in self.parts for t in part.arguments()]

    @property
    def parts(self) -> Sequence[ChannelLinear]:
        """The layers whose product this is."""
        return (self,)

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "_cache"}


class Folded(ChannelLinear):
    """Several channel-linear layers run as one matrix; the layers stay who they are."""

    def __init__(self, parts: Sequence[ChannelLinear]):
        super().__init__()
        self._layers = torch.nn.ModuleList(parts)

    @property
    def parts(self):  # they belong to the chain, which alone switches train() and eval()
        return tuple(self._layers)

    def matrix(self):
        return functools.reduce(_then, [part.matrix() for part in self.parts])

    def inverse_matrix(self):
        w = self.parts[-1].inverse_matrix().double()
        for part in self.parts[-2::-1]:
            v = part.inverse_matrix().double()
            w = _product(v, v.dim() == 1, w, w.dim() == 1)
        return w


def can_keep(parts: Sequence[ChannelLinear], state: Sequence[Tensor]) -> bool:
    """Whether matrices made of ``state``, the tensors of ``parts``, may outlive a call."""
    return not (
        not handwritten.applies()  # comparing values would end in torch.func and torch.compile
        or any(part.training for part in parts)
        or (torch.is_grad_enabled() and any(t.requires_grad for t in state))
        or any(t.is_inference() for t in state)
    )


def evaluate_together(layers: Sequence[ChannelLinear]) -> tuple[list[Matrix], Tensor]:
    """The matrices of all ``layers``, of one kind and size, and the sum of their log|det|."""
    factors = []
    with without_autocast(layers[0].parts[0].arguments()[0].device.type):
        for parts in zip(*(layer.parts for layer in layers), strict=True):
            arguments = zip(*(part.arguments() for part in parts), strict=True)
            factors.append(parts[0].formula(*(torch.stack(a) for a in arguments)))
        w, b, logabsdet = functools.reduce(_then, factors)
    return list(zip(w.unbind(), b.unbind(), logabsdet.unbind(), strict=True)), logabsdet.sum()


def kind(layer: ChannelLinear) -> tuple:
    """What two layers must share to be evaluated together."""
    return tuple(
        (type(part), tuple((a.shape, a.dtype, a.device) for a in part.arguments()))
        for part in layer.parts
    )


def _same(state: Sequence[Tensor], kept: Sequence[Tensor]) -> bool:
    """Equal values. Version counters would be cheaper, but fused optimisers do not move them."""
    return all(
        t.dtype == k.dtype and t.device == k.device and torch.equal(t, k)
        for t, k in zip(state, kept, strict=True)
    )


def _then(first: Matrix, second: Matrix) -> Matrix:
    """The map ``first`` followed by ``second``."""
    (w1, b1, d1), (w2, b2, d2) = first, second
    diagonal1, diagonal2 = w1.dim() == b1.dim(), w2.dim() == b2.dim()
    b = w2 * b1 if diagonal2 else (w2 @ b1.unsqueeze(-1)).squeeze(-1)
    return _product(w2, diagonal2, w1, diagonal1), b + b2, d1 + d2


def _product(v: Tensor, v_diagonal: bool, w: Tensor, w_diagonal: bool) -> Tensor:
    """The matrix v w, where the entries of a diagonal may stand for it."""
    if v_diagonal:
        return v * w if w_diagonal else v.unsqueeze(-1) * w
    return v * w.unsqueeze(-2) if w_diagonal else v @ w


def _act(a: Tensor, v: Tensor) -> Tensor:
    """The vector a v, where ``a`` may be a diagonal."""
    return a * v if a.dim() == 1 else a @ v


def forward_by(matrices, x: Tensor) -> tuple[Tensor, Tensor]:
    """(z, logdet) by what `ChannelLinear.both_ways` gives."""
    (w, b, logabsdet), _, _ = matrices
    return apply_matrix(w, b, x), per_item(logabsdet, x)


def inverse_by(matrices, z: Tensor) -> tuple[Tensor, Tensor]:
    """(x, logdet) by what `ChannelLinear.both_ways` gives."""
    (_, _, logabsdet), w, b = matrices
    return apply_matrix(w, b, z), -per_item(logabsdet, z)


def apply_matrix(w: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """W x + b at every position of x (B, C, *space), of at most three dimensions."""
    if not 2 <= x.dim() <= 5 or x.shape[1] != w.shape[-1]:
        layout = f"(B, {w.shape[-1]}, ...)"
        raise ShapeError(f"a channel-linear layer takes {layout}, got {tuple(x.shape)}")
    # the state of the flow keeps its precision whatever autocast the caller is under
    with without_autocast(x.device.type):
        if w.dim() == 1:
            shape = (-1,) + (1,) * (x.dim() - 2)
            return torch.addcmul(b.view(shape), x, w.view(shape))
        if x.dim() == 2:
            return F.linear(x, w, b)
        # PyTorch 2.11 may compile the gradient of permuted products for other strides than they get
        few = len(w) <= _FEW and not torch.compiler.is_compiling()
        if x.dim() == 4 and few and is_channels_last(x):
            return F.linear(x.permute(0, 2, 3, 1), w, b).permute(0, 3, 1, 2)
        return _CONV[x.dim()](x, w.view(w.shape + (1,) * (x.dim() - 2)), b)


def per_item(logabsdet: Tensor, x: Tensor) -> Tensor:
    """log|det| of the whole item: once per position, for each of the batch."""
    return (logabsdet * x.shape[2:].numel()).expand(x.shape[0])
