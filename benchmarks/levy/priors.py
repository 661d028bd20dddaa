"""One flow for each law, trained on draws of its signals by `innverse.fit`.

All are flows over the 64 samples that begin by taking differences, a fixed linear layer of determinant
1, and see large numbers through an asinh. What follows is learned for every increment by itself, its
law as well as its independence of the others. Signals of the law with an atom have no density: its
flow is autoregressive, and conditioned on the level of the noise that was added to them.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import innverse
from innverse.bijections import (
    ActNorm,
    Autoregressive,
    Bijection,
    Chain,
    Coupling,
    Diagonal,
    Permute,
    RationalQuadraticSpline,
)
from innverse.bijections.base import zero_logdet
from innverse.bijections.elementwise import Elementwise
from innverse.nets import MLP

from .laws import Law
from .operators import LENGTH

_BEFORE = 1000.0  # stands before the signal, where hardly any other number is


class Differences(Bijection):
    """w_1 = x_1, w_k = x_k - x_{k-1}."""

    def forward(self, x, c=None):
        return torch.cat((x[:, :1], x.diff(dim=1)), 1), zero_logdet(x)

    def inverse(self, z, c=None):
        return z.cumsum(1), zero_logdet(z)


class Asinh(Elementwise):
    """z = asinh(x / s), s = e^p: linear near 0, logarithmic far away."""

    n_params = 1

    def forward(self, x, p):
        y = x * (-p.squeeze(1)).exp()
        return y.asinh(), -p.squeeze(1) - 0.5 * y.square().log1p()

    def inverse(self, z, p):
        return z.sinh() * p.squeeze(1).exp(), p.squeeze(1) + z.cosh().log()


class AroundGuess(Elementwise):
    """z = spline(asinh(w / s - t)): a number w beside a guess s t."""

    def __init__(self, spline: Elementwise, unit: float):
        self.spline, self.unit = spline, unit
        self.n_params = spline.n_params + 1

    def forward(self, x, p):
        y = (x / self.unit - p[:, -1]).asinh()
        z, log_derivative = self.spline.forward(y, p[:, :-1].contiguous())
        return z, log_derivative - y.cosh().log() - math.log(self.unit)

    def inverse(self, z, p):
        y, log_derivative = self.spline.inverse(z, p[:, :-1].contiguous())
        x = self.unit * (y.sinh() + p[:, -1])
        return x, log_derivative + y.cosh().log() + math.log(self.unit)


class Window(nn.Module):
    """Parameters of each increment from the ``reach`` before it and the condition, alike at all places.

    A network for `Autoregressive`, (B, n) -> (B, n_params * n), of increments. It looks at the signal:
    at how far the last value is from each of those before it, in a ``unit``.
    """

    def __init__(
        self, n: int, n_params: int, reach: int, width: int, condition: int, unit: float = 1.0
    ):
        super().__init__()
        self.n, self.n_params, self.passes = n, n_params, n
        self.reach, self.unit = reach, unit
        self.depth_of = torch.arange(n)
        self.net = MLP(reach, n_params, width, 2, condition=condition)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        signal = F.pad(x.cumsum(1) / self.unit, (1, 0))[:, :-1]  # what an increment is added to
        before = F.pad(signal, (self.reach, 0), value=_BEFORE)[:, :-1].unfold(1, self.reach, 1)
        rows = (0.5 * (signal[:, :, None] - before)).asinh().flatten(0, 1)
        if c is not None:
            c = c[:, None].expand(-1, self.n, -1).flatten(0, 1)
        return self.net(rows, c).unflatten(0, x.shape).transpose(1, 2).flatten(1)

    def repeated(self, z: Tensor, c: Tensor | None):
        return lambda x: self(x, c)


class Fixed(Bijection):
    """A trained `Diagonal` with a spline, forwards: the same function from tables of its knots.

    A `Diagonal` makes knots of parameters for every number anew, which is two thirds of the time of
    such a density.
    """

    def __init__(self, layer: Diagonal):
        super().__init__()
        spline = layer.transform
        k, n, p = spline.bins, layer.p.shape[1], layer.p.detach()
        slopes = F.softplus(p[2 * k :] + math.log(math.expm1(1 - spline.min_derivative)))
        slopes = F.pad((slopes + spline.min_derivative).T, (1, 1), value=1.0)  # (n, k + 1)
        fractions = spline.min_bin + (1 - spline.min_bin * k) * p[: 2 * k].view(2, k, n).softmax(1)
        w, h = (2 * spline.bound * fractions).mT  # (n, k)
        x0, y0 = (F.pad(t.cumsum(1)[:, :-1], (1, 0)) - spline.bound for t in (w, h))
        self.bound, self.bins = spline.bound, k
        self.inner = x0[:, 1:].contiguous()
        self.tables = [
            t.flatten() for t in (x0, 1 / w, y0, h, h / w, slopes[:, :-1], slopes[:, 1:])
        ]
        self.first = k * torch.arange(n)[:, None]

    def forward(self, x, c=None):
        inside = x.abs() < self.bound
        at = torch.where(inside, x, 0.0).T.contiguous()
        index = (self.first + torch.searchsorted(self.inner, at.detach(), right=True)).flatten()
        x0, per_width, y0, h, slope, d0, d1 = (t[index].view_as(at) for t in self.tables)
        t = (at - x0) * per_width
        u, square = t * (1 - t), t * t
        below = slope + (d0 + d1 - 2 * slope) * u
        z = y0 + h * (slope * square + d0 * u) / below
        top = d1 * square + 2 * slope * u + d0 * (1 - t).square()
        log_derivative = (slope.square() * top / below.square()).log()
        z, log_derivative = z.T, log_derivative.T
        return (
            torch.where(inside, z, x),
            torch.where(inside, log_derivative, 0.0).sum(1),
        )


LEVELS = 0.045, 0.07  # of the noise on signals that have no density


def build(law: Law) -> innverse.flows.Flow:
    """An untrained flow over signals (64,)."""
    n = LENGTH
    if law.active < 1:
        unit = sum(LEVELS)  # twice the noise
        guess = AroundGuess(RationalQuadraticSpline(bins=10, bound=6.0), unit)
        layer = Autoregressive(Window(n, guess.n_params, 24, 48, 4, unit), guess)
        chain = Chain(Differences(), layer, ActNorm(n))
        return innverse.flows.Flow(chain, (n,), noise=LEVELS, noise_width=4)
    spline = RationalQuadraticSpline(bins=12, bound=10.0)
    layers = [Differences(), Diagonal(n, Asinh()), Diagonal(n, spline), ActNorm(n)]
    for _ in range(2):
        layers += [Permute(n), Coupling.build(n, lambda i, o: MLP(i, o, 64, 1))]
    return innverse.flows.Flow(Chain(*layers), (n,))


def trained(law: Law, folder: Path, quick: bool, seed: int) -> innverse.flows.Flow:
    """The flow of ``law``; its weights are kept in ``folder``, where training goes on if it stopped."""
    torch.manual_seed(seed)
    flow = build(law)
    weights = folder / "weights.pt"
    if not weights.exists():
        increments = law.sample((2000 if quick else 100_000, LENGTH))
        if law.active == 1:
            flow.bijection.layers[1].p.data.fill_(math.log(increments.abs().median()))
        x = increments.cumsum(1).float()
        rows, lr = (128, 5e-3) if law.active < 1 else (512, 1e-3)
        options = {"batch_size": rows, "lr": lr, "max_epochs": 2 if quick else 6, "seed": seed}
        innverse.fit(flow, x, checkpoint=folder, **options)
        torch.save(flow.state_dict(), weights)
    flow.load_state_dict(torch.load(weights, weights_only=True))
    layers = flow.bijection.layers
    if law.active == 1:
        layers[2] = Fixed(layers[2])
    return flow.eval().requires_grad_(False)
