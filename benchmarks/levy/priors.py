"""One flow for each law, trained on draws of its signals by `innverse.fit`.

All begin by taking differences, a fixed linear layer of determinant 1, and an asinh, which brings
heavy tails near. What follows is learned, independence of the increments included. Signals of the law
with an atom have no density: its flow is conditioned on the level of noise that was added to them.
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
from innverse.bijections.base import sum_per_item, zero_logdet
from innverse.bijections.elementwise import Elementwise
from innverse.nets import MLP

from .laws import Law
from .operators import LENGTH


_BEFORE = 5.0  # stands before the first number, where hardly any other is


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


class Window(nn.Module):
    """Parameters of each number from the ``reach`` before it and the condition, alike at all places.

    A network for `Autoregressive`, (B, n) -> (B, n_params * n).
    """

    def __init__(self, n: int, n_params: int, reach: int, width: int, condition: int):
        super().__init__()
        self.n, self.n_params, self.passes, self.reach = n, n_params, n, reach
        self.depth_of = torch.arange(n)
        self.net = MLP(reach, n_params, width, 2, condition=condition)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        before = F.pad(x, (self.reach, 0), value=_BEFORE)[:, :-1]
        rows = before.unfold(1, self.reach, 1).flatten(0, 1)
        if c is not None:
            c = c[:, None].expand(-1, self.n, -1).flatten(0, 1)
        return self.net(rows, c).unflatten(0, x.shape).transpose(1, 2).flatten(1)

    def repeated(self, z: Tensor, c: Tensor | None):
        return lambda x: self(x, c)


LEVELS = 0.04, 0.1  # of the noise on signals that have no density


def build(law: Law) -> innverse.flows.Flow:
    """An untrained flow over signals (64,)."""
    n, spline = LENGTH, RationalQuadraticSpline(bins=12, bound=10.0)
    layers: list[Bijection] = [Differences(), Diagonal(n, Asinh())]
    if law.active < 1:
        layers += [Autoregressive(Window(n, spline.n_params, 24, 48, 4), spline), ActNorm(n)]
        return innverse.flows.Flow(Chain(*layers), (n,), noise=LEVELS, noise_width=4)
    layers += [Diagonal(n, spline), ActNorm(n)]
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
        unit = 2 * LEVELS[0] if law.active < 1 else increments.abs().median()
        flow.bijection.layers[1].p.data.fill_(math.log(unit))
        x = increments.cumsum(1).float()
        epochs = 2 if quick else 12
        innverse.fit(flow, x, max_epochs=epochs, batch_size=512, seed=seed, checkpoint=folder)
        torch.save(flow.state_dict(), weights)
    flow.load_state_dict(torch.load(weights, weights_only=True))
    return flow.eval().requires_grad_(False)
