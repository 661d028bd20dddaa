"""Linear mixing of channels: the invertible 1x1 convolution, permutations, reflections."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..accelerate import handwritten
from ..derived import register_derived
from ..shapes import check_channels
from .base import zero_logdet
from .bounded import inverse_soft_bound, soft_bound
from .channel_linear import ChannelLinear

_LIMIT = 5.0  # diagonal of U between e^-5 and e^5


class Invertible1x1(ChannelLinear):
    """z = P L (U + diag(s)) x at every position (Kingma & Dhariwal 2018, section 3.2).

    P is a fixed permutation, L unit lower and U strictly upper triangular, so log|det| is
    sum log|s| and the inverse takes two triangular solves. ``init`` is ``"orthogonal"`` (a random
    rotation) or ``"swap"`` (the two halves of the channels change places). Works for vectors and
    for images of any dimension.

    Example:
        >>> layer = Invertible1x1(4)
        >>> z, log_det = layer(torch.rand(2, 4, 8, 8))
        >>> bool(log_det.abs().max() < 1e-3)  # it begins as a rotation
        True
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int, init: str = "orthogonal"):
        super().__init__()
        if init not in ("orthogonal", "swap"):
            raise ValueError(f"init={init!r}: choose 'orthogonal' or 'swap'")
        if init == "orthogonal":
            w = torch.linalg.qr(torch.randn(channels, channels))[0]
        else:
            w = torch.eye(channels).roll(channels // 2, 0)
        p, lower, upper = torch.linalg.lu(w)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", p.argmax(1))
        self.register_buffer("sign", diagonal.sign())
        # the factors come with rows innermost; optimisers and files want columns
        self.lower = nn.Parameter(lower.tril(-1).contiguous())
        self.upper = nn.Parameter(upper.triu(1).contiguous())
        self.log_s = nn.Parameter(inverse_soft_bound(diagonal.abs().log(), _LIMIT))

    def arguments(self):
        return self.lower, self.upper, self.log_s, self.sign, self.permutation

    @staticmethod
    def formula(lower, upper, log_s, sign, permutation):
        log_s = soft_bound(log_s, _LIMIT)
        lower, upper = _factors(lower, upper, log_s, sign)
        w = (lower @ upper).take_along_dim(permutation.unsqueeze(-1), -2)
        return w, torch.zeros_like(log_s), log_s.sum(-1)

    def inverse_matrix(self):
        log_s = soft_bound(self.log_s, _LIMIT)
        lower, upper = _factors(self.lower, self.upper, log_s, self.sign)
        eye = torch.eye(len(lower), dtype=torch.float64, device=lower.device)
        p = eye[self.permutation]
        if handwritten.exporting():  # to formats (ONNX) that solve no equations
            w = _substitute(lower.double(), p.T)
            return _substitute(upper.double().flip(0, 1), w.flip(0)).flip(0)
        w = torch.linalg.solve_triangular(lower.double(), p.T, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper.double(), w, upper=True)

    def extra_repr(self) -> str:
        return str(len(self.log_s))


def _factors(lower, upper, log_s, sign) -> tuple[Tensor, Tensor]:
    eye = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    return lower.tril(-1) + eye, upper.triu(1) + torch.diag_embed(sign * log_s.exp())


def _substitute(lower: Tensor, b: Tensor) -> Tensor:
    """L^-1 b by forward substitution, in products and sums only."""
    rows = (b[:1] / lower[:1, :1]).clone()
    for i in range(1, len(lower)):
        row = (b[i : i + 1] - lower[i : i + 1, :i] @ rows) / lower[i : i + 1, i : i + 1]
        rows = torch.cat((rows, row))
    return rows


class Permute(ChannelLinear):
    """z_i = x_{p(i)}: a fixed permutation of the channels (random, unless ``order`` is given).

    Example:
        >>> z, log_det = Permute(3)(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> z, log_det
        (tensor([[3., 1., 2.]]), tensor([0.]))
    """

    order: Tensor
    one: Tensor

    def __init__(self, channels: int, order: Tensor | None = None):
        super().__init__()
        order = torch.randperm(channels) if order is None else torch.as_tensor(order)
        if not order.is_meta and sorted(order.tolist()) != list(range(channels)):
            raise ValueError(f"order must be a permutation of 0..{channels - 1}, got {order}")
        self.register_buffer("order", order)
        register_derived(self, one=torch.ones(()))  # carries dtype and device

    def derive(self) -> dict[str, Tensor]:
        return {"one": torch.ones((), device="cpu")}

    def forward(self, x: Tensor, c: Tensor | None = None):
        check_channels(self, x, len(self.order))
        return x[:, self.order], zero_logdet(x)

    def inverse(self, z: Tensor, c: Tensor | None = None):
        check_channels(self, z, len(self.order))
        return z[:, self.order.argsort()], zero_logdet(z)

    def arguments(self):
        return self.order, self.one

    @staticmethod
    def formula(order, one):
        places = torch.arange(order.shape[-1], device=order.device)
        w = (order.unsqueeze(-1) == places).to(one)
        return w, torch.zeros_like(w[..., 0]), torch.zeros_like(one)

    def inverse_matrix(self):
        return self.matrix()[0].T

    def extra_repr(self) -> str:
        return str(len(self.order))


class Householder(ChannelLinear):
    """z = H_1 ... H_k x, a product of ``k`` learned reflections H = I - 2 v v^T / |v|^2.

    Orthogonal, so log|det| = 0 and the inverse is the transpose (Tomczak & Welling 2016,
    arXiv 1611.09630).

    Example:
        >>> z, log_det = Householder(4)(torch.rand(2, 4))  # a product of reflections
        >>> log_det
        tensor([0., 0.])
    """

    def __init__(self, channels: int, k: int | None = None):
        super().__init__()
        self.v = nn.Parameter(torch.randn(k or min(channels, 8), channels))

    def arguments(self):
        return (self.v,)

    @staticmethod
    def formula(v):
        u = v / v.norm(dim=-1, keepdim=True)
        w = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
        for i in range(v.shape[-2]):
            row = u[..., i, None, :]
            w = w - 2 * (w @ row.mT) @ row
        return w, torch.zeros_like(v[..., 0, :]), torch.zeros_like(v[..., 0, 0])

    def inverse_matrix(self):
        return self.formula(self.v.double())[0].mT

    def extra_repr(self) -> str:
        return f"{self.v.shape[1]}, k={self.v.shape[0]}"
