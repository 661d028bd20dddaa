"""Residual flows: z = x + g(x) with contractions g."""

from __future__ import annotations

from ..bijections import (
    ActNorm,
    Bijection,
    Chain,
    ConditionalScale,
    Residual,
    Squeezed,
    Standardize,
)
from ..errors import UsageError
from ..nets import LipschitzConv, LipschitzMLP
from .flow import Flow
from .registry import register


@register(axes=(1, 3))
def residual(
    shape: tuple[int, ...],
    *,
    layers: int = 8,
    levels: int = 2,
    hidden: int = 128,
    depth: int = 2,
    standardize: bool = True,
    lipschitz: float = 0.9,
    logdet: str = "auto",
    exact_dims: int = 32,
    terms: int = 24,
    probes: int = 16,
    condition: int = 0,
    noise: tuple[float, float] | None = None,
    width: int = 32,
) -> Flow:
    """ActNorm and x + g(x), repeated (i-ResNet, arXiv 1811.00995; Residual Flows, 1906.02735).

    Every layer has a free-form Jacobian: no halves, no masks. Paid for by an iterative inverse,
    and above ``exact_dims`` dimensions by a log-determinant that is an unbiased estimate in
    training and a truncated series with fixed probes in evaluation mode (see `Residual`).

    Args:
        shape: (D,), or (C, H, W) for images whose sides divide by 2**levels.
        layers: residual layers, for images on each of the ``levels`` of resolution.
        hidden: width of the networks; ``depth`` hidden layers for vectors, 3x3 - 1x1 - 3x3
            convolutions for images.
        standardize: vectors: begin with a `Standardize`, which `initialize` sets to the units of
            the data.
        lipschitz: the bound on each g, below 1: larger is more flexible and slower to invert.
        logdet, exact_dims, terms, probes: how log|det| is computed, see `Residual`.
        condition: channels of a condition c, a vector (B, k) or for images a map (B, k, h, w).
        noise: (low, high) makes the flow conditional on a noise level, embedded in ``width``
            features, instead. For score matching use ``logdet="series"``.
    """
    context = width if noise is not None else condition
    images = len(shape) == 3
    if images and levels < 1:
        raise UsageError(f"levels={levels}: at least 1")

    def step(channels: int) -> list[Bijection]:
        options = {"lipschitz": lipschitz, "condition": context}
        if images:
            net = LipschitzConv(channels, hidden, **options)
        else:
            net = LipschitzMLP(channels, hidden, depth, **options)
        follow = [ConditionalScale(channels, context)] if noise is not None else []
        layer = Residual(net, logdet=logdet, exact_dims=exact_dims, terms=terms, probes=probes)
        return [*follow, ActNorm(channels), layer]

    def level(channels: int, remaining: int, first: tuple = ()) -> Bijection:
        inner = [layer for _ in range(layers) for layer in step(channels)]
        if remaining:
            inner.append(Squeezed(level(4 * channels, remaining - 1)))
        return Chain(*first, *inner, ActNorm(channels))

    if images:
        bijection = Squeezed(level(4 * shape[0], levels - 1))
    else:
        bijection = level(shape[0], 0, (Standardize(shape[0]),) if standardize else ())
    return Flow(
        bijection,
        shape,
        noise=noise,
        noise_width=width,
        condition=condition,
        multiple=2**levels if images else 1,
    )
