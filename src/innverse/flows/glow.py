"""Glow: generative flow with invertible 1x1 convolutions."""

from __future__ import annotations

from ..bijections import (
    ActNorm,
    Affine,
    Bijection,
    Chain,
    ConditionalScale,
    Coupling,
    Gaussianize,
    Haar,
    Invertible1x1,
    Partial,
    Squeezed,
)
from ..errors import UsageError
from ..nets import ConvNet, MapFeatures, SingleConv
from .flow import Flow
from .registry import register

_SQUEEZE = {"pixels": Squeezed, "haar": Haar}


def per_level(value: int | tuple[int, ...], levels: int, what: str) -> list[int]:
    """An option of each level, finest first, from one number for all or one for each."""
    values = list(value) if isinstance(value, (tuple, list)) else [value] * levels
    if len(values) != levels:
        raise UsageError(f"{what}={value}: one number, or one for each of the {levels} levels")
    return values


@register(axes=(3,))
def glow(
    shape: tuple[int, int, int],
    *,
    levels: int = 3,
    steps: int | tuple[int, ...] = 8,
    hidden: int | tuple[int, ...] = 64,
    condition: int = 0,
    features: int = 0,
    noise: tuple[float, float] | None = None,
    how: str = "concat",
    activation: str = "relu",
    squeeze: str = "pixels",
    mix: str = "orthogonal",
    split: str = "net",
    gaussianize: int = 0,
    width: int = 32,
    bound: float = 2.0,
) -> Flow:
    """Multi-scale Glow for images (Kingma & Dhariwal 2018, arXiv 1807.03039).

    Args:
        shape: (C, H, W); being convolutional, the flow takes any H and W that divide by
            2**levels, and pads others.
        levels, steps, hidden: L, K and the width of the conditioner networks in the paper. K and the
            width may be lists, one number for each level, finest first: the finest cost most.
        condition: channels of a condition c, a vector (B, k) or a map (B, k, h, w).
        features: of a condition that is a map, so many channels are made by a network, see
            `MapFeatures`, and all steps take these; 0 gives them the map itself.
        noise: (low, high) makes the flow conditional on a noise level instead; its embedding
            has ``width`` features and also scales the channels before every step.
        how: a vector condition enters the networks by ``"concat"`` or ``"film"``.
        activation: ``"relu"``, ``"silu"`` or ``"gelu"`` in the networks.
        squeeze: ``"pixels"`` as in the paper, or ``"haar"`` (averages and details: smoother).
        mix: the 1x1 convolutions start ``"orthogonal"`` (random rotations) or ``"swap"`` (the
            halves change places, so the meaning of wavelet channels is kept).
        split: the half that is factored out is standardised by a coupling with the same ``"net"``
            as the steps (a stronger prior), or with one ``"conv"`` as in the paper.
        gaussianize: bins of a learned histogram of the pixels that makes them normal before the
            first step, see `Gaussianize`: 256 for 8-bit images that are mostly black, 0 for none.
        bound: log-scales of the couplings stay within (-bound, bound).
    """
    if levels < 1:
        raise UsageError(f"levels={levels}: at least 1")
    if squeeze not in _SQUEEZE:
        raise UsageError(f"squeeze={squeeze!r}: choose 'pixels' or 'haar'")
    if split not in ("net", "conv"):
        raise UsageError(f"split={split!r}: choose 'net' or 'conv'")
    if gaussianize and noise is not None:
        raise UsageError("gaussianize is for pixels in [0, 1], and noise leads out of it")
    if features and not (condition and how == "concat"):
        raise UsageError(
            "features are made of a condition that is a map: give condition, by concat"
        )
    context = width if noise is not None else features or condition
    depths, widths = per_level(steps, levels, "steps"), per_level(hidden, levels, "hidden")

    def coupling(channels: int, width: int) -> Coupling:
        def net(n_in: int, n_out: int) -> ConvNet:
            return ConvNet(n_in, n_out, width, condition=context, how=how, activation=activation)

        return Coupling.build(channels, net, Affine(bound))

    def learned_prior(channels: int, width: int) -> Coupling:
        if split == "net":
            return coupling(channels, width)
        return Coupling.build(
            channels, lambda i, o: SingleConv(i, o, condition=context), Affine(bound)
        )

    def normalise(channels: int) -> list[Bijection]:
        follow = [ConditionalScale(channels, context)] if noise is not None else []
        return [*follow, ActNorm(channels)]

    def step(channels: int, width: int) -> list[Bijection]:
        return [*normalise(channels), Invertible1x1(channels, mix), coupling(channels, width)]

    def level(channels: int, depths: list[int], widths: list[int]) -> Bijection:
        c, width = 4 * channels, widths[0]
        layers = [layer for _ in range(depths[0]) for layer in step(c, width)]
        if depths[1:]:
            inner = Partial(level(c // 2, depths[1:], widths[1:]), c // 2)
            layers += [*normalise(c), learned_prior(c, width), inner]
        return _SQUEEZE[squeeze](Chain(*layers))

    bijection = level(shape[0], depths, widths)
    if gaussianize:
        bijection = Chain(Gaussianize(gaussianize), bijection)
    return Flow(
        bijection,
        shape,
        noise=noise,
        noise_width=width,
        condition=condition,
        condition_net=MapFeatures(condition, features, widths[0]) if features else None,
        maps=how == "concat",
        multiple=2**levels,
    )
