"""One entry per layer: a builder, an input, and a condition. Every entry gets every check."""

from __future__ import annotations

import torch

from innverse import bijections as b
from innverse.nets import MADE, MLP, ConvNet, ConvResNet, LipschitzConv, LipschitzMLP, ViT


def vector(n=6, batch=3):
    return torch.randn(batch, n, generator=torch.Generator().manual_seed(1))


def image(c=4, size=4, batch=2):
    return torch.randn(batch, c, size, size, generator=torch.Generator().manual_seed(2))


def unit(shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 0.9 + 0.05


def conv(**options):
    return lambda i, o: ConvNet(i, o, hidden=8, activation="silu", **options)


def mlp(**options):
    return lambda i, o: MLP(i, o, width=16, **options)


def residual(net):
    """Few steps to converge, since tracing unrolls them."""
    return b.Residual(net, logdet="exact", tolerance=1e-9)


def vit(n_in, n_out, **options):
    return ViT(n_in, n_out, width=8, depth=1, heads=2, **options)


def standardize(n, x):
    layer = b.Standardize(n)
    layer.loc.copy_(torch.linspace(-2, 3, n))
    layer.scale.copy_(torch.linspace(0.1, 7, n))
    return layer, x


def step(c):
    return b.Chain(b.ActNorm(c), b.Invertible1x1(c), b.Coupling.build(c, conv()))


CHECKER = (torch.arange(4)[:, None] + torch.arange(4)[None]) % 2 * torch.ones(2, 1, 1)

# name: (layer, x) or (layer, x, c)
LAYERS = {
    "standardize": lambda: standardize(6, vector()),
    "standardize image": lambda: standardize(4, image()),
    "additive coupling": lambda: (b.Coupling.build(6, mlp(), b.Additive()), vector()),
    "affine coupling": lambda: (b.Coupling.build(6, mlp(), b.Affine()), vector()),
    "affine coupling, swapped, odd": lambda: (b.Coupling.build(5, mlp(), swap=True), vector(5)),
    "spline coupling": lambda: (
        b.Coupling.build(6, mlp(), b.RationalQuadraticSpline(bins=5, bound=2)),
        2 * vector(),
    ),
    "coupling of channels": lambda: (b.Coupling.build(4, conv()), image()),
    "coupling, residual net": lambda: (
        b.Coupling.build(4, lambda i, o: ConvResNet(i, o, 8, 1, activation="silu")),
        image(),
    ),
    "conditional coupling, vector by concatenation": lambda: (
        b.Coupling.build(6, mlp(condition=3)),
        vector(),
        vector(3),
    ),
    "conditional coupling, vector by FiLM": lambda: (
        b.Coupling.build(6, mlp(condition=3, how="film", residual=True)),
        vector(),
        vector(3),
    ),
    "conditional coupling, image by FiLM": lambda: (
        b.Coupling.build(4, conv(condition=3, how="film")),
        image(),
        vector(3, batch=2),
    ),
    "conditional coupling, finer map": lambda: (
        b.Coupling.build(4, conv(condition=2)),
        image(),
        image(2, 8),
    ),
    "conditional coupling, coarser map": lambda: (
        b.Coupling.build(4, conv(condition=2)),
        image(),
        image(2, 2),
    ),
    "masked coupling": lambda: (
        b.MaskedCoupling(CHECKER, ConvNet(2, 4, hidden=8, activation="silu")),
        image(2),
    ),
    "masked spline coupling": lambda: (
        b.MaskedCoupling(
            torch.tensor([1, 0, 1, 0, 1, 0]), MLP(6, 14 * 6, 8), b.RationalQuadraticSpline(5)
        ),
        vector(),
    ),
    "diagonal affine": lambda: (b.Diagonal(6), vector()),
    "diagonal spline": lambda: (b.Diagonal(4, b.RationalQuadraticSpline(6)), 3 * image()),
    "actnorm": lambda: (b.ActNorm(6), vector()),
    "actnorm, image": lambda: (b.ActNorm(4), image()),
    "invertible 1x1": lambda: (b.Invertible1x1(6), vector()),
    "invertible 1x1, image": lambda: (b.Invertible1x1(4), image()),
    "invertible 1x1, from a swap": lambda: (b.Invertible1x1(4, init="swap"), image()),
    "conditional scale": lambda: (b.ConditionalScale(4, 3), image(), vector(3, batch=2)),
    "permute": lambda: (b.Permute(6), vector()),
    "householder": lambda: (b.Householder(6), vector()),
    "folded actnorm, 1x1, permute": lambda: (
        b.Chain(b.ActNorm(4), b.Invertible1x1(4), b.Permute(4), b.Householder(4)),
        image(),
    ),
    "squeezed": lambda: (b.Squeezed(step(8)), image(2, 4)),
    "haar": lambda: (b.Haar(step(8)), image(2, 4)),
    "partial": lambda: (b.Partial(step(3), 3), image(4)),
    "residual": lambda: (residual(LipschitzMLP(5, 8, lipschitz=0.05)), vector(5)),
    "residual, conditional image": lambda: (
        residual(LipschitzConv(2, 4, lipschitz=0.05, condition=2)),
        image(2, 3),
        image(2, 6),
    ),
    "causal": lambda: (b.Causal(vit(3, 6, causal=True)), image(3, 2)),
    "causal backwards, conditional": lambda: (
        b.Causal(vit(2, 4, causal=True, backwards=True, condition=3)),
        image(2, 2),
        vector(3, batch=2),
    ),
    "patches, coupling by attention": lambda: (
        b.Patches(b.Coupling.build(8, vit), 2),
        image(2, 4),
    ),
    "cosines of patches": lambda: (b.Cosines(b.Coupling.build(8, conv()), 2), image(2, 4)),
    "positions, vectors": lambda: (b.Positionwise(b.Coupling.build(4, mlp())), image()),
    "positions, conditional": lambda: (
        b.Positionwise(b.Chain(b.ActNorm(4), b.Coupling.build(4, mlp(condition=3)))),
        image(),
        vector(3, batch=2),
    ),
    "periodic convolution": lambda: (b.PeriodicConvolution(3, 3), image(3, 5)),
    "autoregressive": lambda: (b.Autoregressive(MADE(3, 2, 8)), vector(3)),
    "autoregressive, conditional by concatenation": lambda: (
        b.Autoregressive(MADE(3, 2, 8, condition=2)),
        vector(3),
        vector(2),
    ),
    "autoregressive, groups in another order, FiLM": lambda: (
        b.Autoregressive(MADE(4, 2, 8, order=[1, 0, 2, 0], condition=2, how="film")),
        vector(4),
        vector(2),
    ),
    "autoregressive spline": lambda: (
        b.Autoregressive(MADE(2, 14, 8), b.RationalQuadraticSpline(5, bound=2)),
        2 * vector(2),
    ),
    "inverse autoregressive": lambda: (
        b.Inverse(b.Autoregressive(MADE(3, 2, 8))),
        vector(3),
    ),
    "checkerboard": lambda: (b.Checkerboard(conv()(2, 4)), image(2)),
    "checkerboard, swapped, conditional": lambda: (
        b.Checkerboard(conv(condition=3)(1, 2), swap=True),
        image(1, 5),
        vector(3, batch=2),
    ),
    "inverse": lambda: (b.Inverse(b.Coupling.build(6, mlp())), vector()),
    "logit": lambda: (b.Logit(0.05), unit((3, 6))),
    "gaussianize": lambda: (b.Gaussianize(5), unit((2, 3, 2))),
    "chain": lambda: (b.Chain(step(4), step(4)), image()),
    "empty chain": lambda: (b.Chain(), vector()),
    "two scales": lambda: (
        b.Squeezed(
            b.Chain(step(4), b.Coupling.build(4, conv()), b.Partial(b.Squeezed(step(8)), 2))
        ),
        image(1, 8),
    ),
}
