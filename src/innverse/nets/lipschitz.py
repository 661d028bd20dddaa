"""Networks that contract, |g(x) - g(y)| <= L |x - y| with L < 1, and their Jacobian products.

The bound on every layer holds from above and needs no state: the matrix is squared instead of
iterating a vector, which is the power iteration with all its vectors at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.parts import Part
from ..shapes import check_channels, check_condition
from .conditioning import concatenate

_LIPSWISH = 1.1  # the steepest slope of h sigmoid(b h) is 1.0998, for every b > 0
_GRID = 16  # frequencies along each axis


def spectral_bound(w: Tensor, squarings: int = 5) -> Tensor:
    """An upper bound on the largest singular value of w (..., m, n) -> (...).

    sigma <= |G^(2^k)|_F^(1 / 2^(k+1)) with G = w w^T and k ``squarings`` (Gram iteration, Delattre
    et al. 2023, arXiv 2305.16173); too large by a factor of min(m, n)^(1 / 2^(k+2)) at most, 1.033
    for 64 rows and k = 5. Smooth in w.
    """
    g = w @ w.mT if w.shape[-2] <= w.shape[-1] else w.mT @ w
    log = g.new_zeros(g.shape[:-2])
    for _ in range(squarings):  # G^(2^i) = e^log g: normalised before each square
        size = _frobenius(g)
        g = g / size[..., None, None]
        g, log = g @ g, 2 * (log + size.log())
    return ((log + _frobenius(g).log()) / 2 ** (squarings + 1)).exp()


def convolution_bound(w: Tensor, squarings: int = 5) -> Tensor:
    """An upper bound on the norm of the convolution with w (o, i, k, k), k odd, zero padding.

    Holds for images of any size: the norm is at most the largest singular value of the symbol
    H(f) = sum_t w_t e^(-i f t) over all frequencies f. It is bounded on a grid of N frequencies an
    axis; between them H is larger by a factor of 1 / (1 - (k - 1) / N) at most (Pfister & Bresler
    2018, arXiv 1802.09588).
    """
    k = w.shape[-1]
    if k == 1:
        return spectral_bound(w[..., 0, 0], squarings)
    angle = torch.arange(_GRID, device=w.device, dtype=w.dtype) * (2 * math.pi / _GRID)
    t = torch.arange(k, device=w.device, dtype=w.dtype) - k // 2
    turns = angle[:, None] * t
    half = turns[: _GRID // 2 + 1]  # H(-f) is the conjugate of H(f)
    phase = (half[:, None, :, None] + turns[None, :, None, :]).flatten(0, 1)
    real = torch.einsum("oikl,fkl->foi", w, phase.cos())
    imag = torch.einsum("oikl,fkl->foi", w, phase.sin())
    symbol = torch.cat((torch.cat((real, -imag), 2), torch.cat((imag, real), 2)), 1)
    return spectral_bound(symbol, squarings).amax() / (1 - (k - 1) / _GRID)


def _frobenius(g: Tensor) -> Tensor:
    return g.square().sum((-2, -1)).clamp_min(torch.finfo(g.dtype).tiny).sqrt()


class LipSwish(nn.Module):
    """h sigmoid(b h) / 1.1 with a learned b > 0: smooth, and 1-Lipschitz (Chen et al. 2019).

    b starts at about ``sharpness``.
    """

    def __init__(self, sharpness: float = 1.0):
        super().__init__()
        self.sharpness = float(sharpness)
        self.raw = nn.Parameter(torch.tensor(0.5))

    def forward(self, h: Tensor) -> Tensor:
        return h * (self._scale() * h).sigmoid() / _LIPSWISH

    def with_slope(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The value and the derivative at h."""
        u = self._scale() * h
        s = u.sigmoid()
        return h * s / _LIPSWISH, s * (1 + u * (1 - s)) / _LIPSWISH

    def _scale(self) -> Tensor:
        return self.sharpness * F.softplus(self.raw)


class LipschitzNet(Part, nn.Module):
    """g = A_k . a . ... . a . A_1 with affine A and LipSwish a; its Lipschitz constant is bounded.

    Every layer with a norm above lipschitz^(1/k) is scaled down to it. A condition c, a vector
    (B, k) or a map, enters the first hidden layer, without bound. Base of `LipschitzMLP` and
    `LipschitzConv`; x and g(x) have the same shape.

    Raises:
        ShapeError: x or c of another shape.
    """

    axes: tuple[int, ...]

    def __init__(
        self,
        n: int,
        layers: Sequence[Any],
        context: nn.Module | None,
        lipschitz: float,
        condition: int,
    ):
        super().__init__()
        self.n, self.condition = n, condition
        if not 0 < lipschitz < 1:
            raise ValueError(f"lipschitz={lipschitz}: must lie between 0 and 1")
        self.lipschitz = float(lipschitz)
        self.layers = nn.ModuleList(layers)
        # a layer of norm 1 gives each of its m outputs a size of 1 / sqrt(m): the activations must
        # bend at that scale, or g is linear for thousands of steps
        sizes = [len(layer.bias) ** -0.5 for layer in layers[:-1]]
        self.activations = nn.ModuleList(LipSwish(1 / size) for size in sizes)
        self.context = context
        with torch.no_grad():
            for layer, size in zip(layers, sizes):
                layer.bias.uniform_(-2 * size, 2 * size)
            layers[-1].weight.mul_(0.1)  # the flow starts close to the identity
            layers[-1].bias.zero_()

    def bound(self, weight: Tensor) -> Tensor:
        """An upper bound on the norm of the linear map with this weight."""
        raise NotImplementedError

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        """The linear map on x (..., B, C, *space)."""
        raise NotImplementedError

    def weights(self) -> list[Tensor]:
        """The scaled weights; computed once, they serve many evaluations."""
        limit = self.lipschitz ** (1 / len(self.layers))
        layers: list[Any] = [*self.layers]
        return [
            layer.weight * (limit / self.bound(layer.weight).clamp_min(limit)) for layer in layers
        ]

    def forward(
        self, x: Tensor, c: Tensor | None = None, weights: list[Tensor] | None = None
    ) -> Tensor:
        weights = self.weights() if weights is None else weights
        h = self._first(x, c, weights[0])
        for i, activation in enumerate(self.activations, 1):
            h = self._affine(activation(h), i, weights[i])
        return h

    def linearize(
        self, x: Tensor, c: Tensor | None = None, weights: list[Tensor] | None = None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """g(x), and the map v -> (dg/dx) v for tangents v (K, B, C, *space)."""
        weights = self.weights() if weights is None else weights
        h, slopes = self._first(x, c, weights[0]), []
        activations: list[Any] = [*self.activations]
        for i, activation in enumerate(activations, 1):
            h, slope = activation.with_slope(h)
            slopes.append(slope)
            h = self._affine(h, i, weights[i])

        def jacobian_product(v: Tensor) -> Tensor:
            v = self.linear(v, weights[0])
            for slope, weight in zip(slopes, weights[1:]):
                v = self.linear(v * slope, weight)
            return v

        return h, jacobian_product

    def _first(self, x: Tensor, c: Tensor | None, weight: Tensor) -> Tensor:
        check_channels(self, x, self.n, self.axes)
        h = self._affine(x, 0, weight)
        if self.context is not None:
            check_condition(self, x, c, self.condition, maps=True)
            h = h + self.context(concatenate(x[:, :0], c))
        return h

    def _affine(self, x: Tensor, i: int, weight: Tensor) -> Tensor:
        layer: Any = self.layers[i]
        return self.linear(x, weight) + layer.bias.view(-1, *[1] * (x.dim() - 2))


class LipschitzMLP(LipschitzNet):
    """``depth`` hidden layers of ``width`` for vectors (B, n) -> (B, n).

    Example:
        >>> net = LipschitzMLP(3, width=16, lipschitz=0.9)
        >>> x, y = torch.rand(2, 5, 3)
        >>> bool(((net(x) - net(y)).norm(dim=1) <= 0.9 * (x - y).norm(dim=1)).all())
        True
    """

    axes = (2,)

    def __init__(
        self,
        n: int,
        width: int = 128,
        depth: int = 2,
        *,
        lipschitz: float = 0.9,
        condition: int = 0,
    ):
        sizes = [n, *[width] * depth, n]
        layers = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
        context = nn.Linear(condition, width, bias=False) if condition else None
        super().__init__(n, layers, context, lipschitz, condition)

    def bound(self, weight):
        return spectral_bound(weight)

    def linear(self, x, weight):
        return F.linear(x, weight)


class LipschitzConv(LipschitzNet):
    """3x3 - 1x1 - 3x3 convolutions with zero padding, (B, n, H, W) -> (B, n, H, W).

    Example:
        >>> net = LipschitzConv(2, hidden=8, lipschitz=0.9)
        >>> net(torch.rand(5, 2, 8, 8)).shape
        torch.Size([5, 2, 8, 8])
    """

    axes = (4,)

    def __init__(self, n: int, hidden: int = 64, *, lipschitz: float = 0.9, condition: int = 0):
        layers = [nn.Conv2d(n, hidden, 3), nn.Conv2d(hidden, hidden, 1), nn.Conv2d(hidden, n, 3)]
        context = nn.Conv2d(condition, hidden, 1, bias=False) if condition else None
        super().__init__(n, layers, context, lipschitz, condition)

    def bound(self, weight):
        return convolution_bound(weight)

    def linear(self, x, weight):
        items = x.flatten(0, -4)  # tangents (K, B, ...) lie in one batch
        return F.conv2d(items, weight, padding=weight.shape[-1] // 2).unflatten(0, x.shape[:-3])
