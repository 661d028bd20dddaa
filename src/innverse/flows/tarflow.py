"""Flows of vision transformers for images: block-autoregressive (TarFlow) or coupling (Jet)."""

from __future__ import annotations

from ..bijections import (
    ActNorm,
    Affine,
    Bijection,
    Causal,
    Chain,
    ConditionalScale,
    Coupling,
    Invertible1x1,
    Patches,
)
from ..errors import UsageError
from ..nets import ViT
from .flow import Flow
from .registry import register


@register(axes=(3,))
def tarflow(
    shape: tuple[int, int, int],
    *,
    kind: str = "causal",
    patch: int = 4,
    blocks: int = 4,
    hidden: int = 128,
    depth: int = 2,
    heads: int = 4,
    condition: int = 0,
    noise: tuple[float, float] | None = None,
    width: int = 32,
    bound: float = 2.0,
) -> Flow:
    """Patches as tokens, affine maps with parameters from attention.

    TarFlow (Zhai et al. 2024, arXiv 2412.06329) maps every patch given all patches before it, in
    alternating order; Jet (Kolesnikov et al. 2024, arXiv 2412.15129) couples halves of the
    channels of each patch. As in TarFlow, train with noise, draw at a low noise level and clean
    up by Tweedie's formula: ``flow.denoise(flow.sample(n, sigma), sigma)``.

    Reversible memory inverts patch by patch, which is slow for causal layers: prefer "checkpoint".

    Args:
        shape: (C, H, W); images of other sizes are taken, and padded to a multiple of ``patch``.
        kind: ``"causal"`` (a stronger density; sampling takes one step per patch and block) or
            ``"coupling"`` (both directions in one pass).
        patch: side of the square patches in pixels.
        blocks: layers of the flow; each has a transformer of ``depth`` blocks, ``hidden`` features
            and ``heads`` heads of its own.
        condition: the size k of a vector condition c (B, k).
        noise: (low, high) makes the flow conditional on a noise level instead; its embedding has
            ``width`` features and also scales the channels before every layer.
        bound: log-scales stay within (-bound, bound).
    """
    if kind not in ("causal", "coupling"):
        raise UsageError(f"kind={kind!r}: choose 'causal' or 'coupling'")
    channels = shape[0] * patch**2
    context = width if noise is not None else condition
    options: dict = {"width": hidden, "depth": depth, "heads": heads, "condition": context}

    def normalise() -> list[Bijection]:
        follow = [ConditionalScale(channels, context)] if noise is not None else []
        return [*follow, ActNorm(channels)]

    def block(k: int) -> list[Bijection]:
        if kind == "coupling":
            coupling = Coupling.build(channels, lambda i, o: ViT(i, o, **options), Affine(bound))
            return [*normalise(), Invertible1x1(channels), coupling]
        net = ViT(channels, 2 * channels, causal=True, backwards=k % 2 == 1, **options)
        return [*normalise(), Causal(net, Affine(bound))]

    layers = [layer for k in range(blocks) for layer in block(k)]
    return Flow(
        Patches(Chain(*layers, *normalise()), patch),
        shape,
        noise=noise,
        noise_width=width,
        condition=condition,
        maps=False,
        multiple=patch,
    )
