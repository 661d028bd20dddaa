"""Maps z = W x + b that act alike at every position: one matrix, so neighbours fold into one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Bijection

_CONV = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


class ChannelLinear(Bijection):
    """z = W x + b on the channels of (B, C, *space).

    A subclass gives ``matrix() -> (W, b, logabsdet)``, with W of shape (C, C), or (C,) for a
    diagonal, b of shape (C,), and log|det W| a scalar; and ``inverse_matrix() -> W^-1`` in the
    same form (float64 is welcome: it is rounded once, when applied). The log-determinant of an
    image is log|det W| times its number of pixels.
    """

    def matrix(self) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError

    def inverse_matrix(self) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        (w, b, logabsdet), _, _ = self._matrices(inverse=False)
        return _apply(w, b, x), _per_item(logabsdet, x)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        (_, _, logabsdet), w, b = self._matrices(inverse=True)
        return _apply(w, b, z), -_per_item(logabsdet, z)

    def _matrices(self, inverse: bool):
        """W, b, log|det W| and, if asked for, W^-1 and -W^-1 b; kept while nothing changes."""
        if torch.compiler.is_compiling() or any(part.training for part in self._parts()):
            return self._compute(inverse)
        params = list(self.parameters())
        if torch.is_grad_enabled() and any(p.requires_grad for p in params):
            return self._compute(inverse)
        state = [*params, *self.buffers()]
        if any(t.is_inference() for t in state):
            return self._compute(inverse)
        cached = self.__dict__.get("_cache")
        if cached is None or not _same(state, cached[0]):
            with torch.inference_mode(False), torch.no_grad():
                cached = ([t.clone() for t in state], self._compute(inverse=True))
            self.__dict__["_cache"] = cached
        return cached[1]

    def _compute(self, inverse: bool):
        device = next(self.parameters(), torch.empty(0)).device.type
        with torch.autocast(device, enabled=False):
            forward = w, b, _ = self.matrix()
            if not inverse:
                return forward, None, None
            w_inv = self.inverse_matrix().double()
            return forward, w_inv.to(w.dtype), -_act(w_inv, b.double()).to(b.dtype)

    def _parts(self) -> Sequence[ChannelLinear]:
        return (self,)

    def __getstate__(self):
        return {k: v for k, v in self.__dict__.items() if k != "_cache"}


class Folded(ChannelLinear):
    """Several channel-linear layers run as one matrix; the layers stay who they are."""

    def __init__(self, parts: Sequence[ChannelLinear]):
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)

    def _parts(self):  # they belong to the chain, which alone switches train() and eval()
        return self.parts

    def matrix(self):
        w, b, logabsdet = self.parts[0].matrix()
        for part in list(self.parts)[1:]:
            w2, b2, d2 = part.matrix()
            w, b, logabsdet = _compose(w2, w), _act(w2, b) + b2, logabsdet + d2
        return w, b, logabsdet

    def inverse_matrix(self):
        w = self.parts[-1].inverse_matrix().double()
        for part in list(self.parts)[-2::-1]:
            w = _compose(part.inverse_matrix().double(), w)
        return w


def _same(state: Sequence[Tensor], kept: Sequence[Tensor]) -> bool:
    """Equal values. Version counters would be cheaper, but fused optimisers do not move them."""
    return all(
        t.dtype == k.dtype and t.device == k.device and torch.equal(t, k)
        for t, k in zip(state, kept, strict=True)
    )


def _compose(a: Tensor, b: Tensor) -> Tensor:
    """The matrix a b, where a vector stands for a diagonal matrix."""
    if a.dim() == 1:
        return a[:, None] * b if b.dim() == 2 else a * b
    return a * b if b.dim() == 1 else a @ b


def _act(a: Tensor, v: Tensor) -> Tensor:
    """The vector a v, where ``a`` may be a diagonal."""
    return a * v if a.dim() == 1 else a @ v


def _apply(w: Tensor, b: Tensor, x: Tensor) -> Tensor:
    # the state of the flow keeps its precision whatever autocast the caller is under
    with torch.autocast(x.device.type, enabled=False):
        if w.dim() == 1:
            shape = (-1,) + (1,) * (x.dim() - 2)
            return torch.addcmul(b.view(shape), x, w.view(shape))
        if x.dim() == 2:
            return F.linear(x, w, b)
        return _CONV[x.dim()](x, w.view(w.shape + (1,) * (x.dim() - 2)), b)


def _per_item(logabsdet: Tensor, x: Tensor) -> Tensor:
    positions = x[0, 0].numel()
    return (logabsdet * positions).expand(x.shape[0])
