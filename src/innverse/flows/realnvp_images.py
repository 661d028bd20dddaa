"""RealNVP's multi-scale architecture for images."""

from __future__ import annotations

from ..bijections import (
    ActNorm,
    Affine,
    Bijection,
    Chain,
    Checkerboard,
    Coupling,
    Gaussianize,
    Logit,
    Partial,
    Squeezed,
    set_memory,
)
from ..nets import ConvResNet
from .flow import Flow


def realnvp_images(
    shape: tuple[int, int, int],
    *,
    levels: int,
    hidden: int,
    blocks: int,
    logit: float,
    gaussianize: int,
    condition: int,
    how: str,
    activation: str,
    bound: float,
    memory: str,
    anchor_every: int | None,
) -> Flow:
    """Dinh et al. 2016 (arXiv 1605.08803), section 3.6 and figure 4.

    Each level: three checkerboard couplings, squeeze, three couplings of channels, and half of
    the channels are factored out. The last level: four checkerboard couplings. ActNorm stands
    where the paper normalises by batches, so that items of a batch stay independent.
    """

    def net(n_in: int, n_out: int) -> ConvResNet:
        options = {"condition": condition, "how": how, "activation": activation}
        return ConvResNet(n_in, n_out, hidden, blocks, **options)

    def checkerboards(channels: int, n: int) -> list[Bijection]:
        map = Affine(bound)
        steps = [
            (ActNorm(channels), Checkerboard(net(channels, 2 * channels), map, swap=k % 2 == 1))
            for k in range(n)
        ]
        return [layer for step in steps for layer in step]

    def channel_couplings(channels: int) -> list[Bijection]:
        steps = [
            (ActNorm(channels), Coupling.build(channels, net, Affine(bound), swap=k % 2 == 1))
            for k in range(3)
        ]
        return [layer for step in steps for layer in step]

    def level(channels: int, remaining: int) -> Bijection:
        if remaining == 1:
            return Chain(*checkerboards(channels, 4), ActNorm(channels))
        c = 4 * channels
        inner = Partial(level(c // 2, remaining - 1), c // 2)
        coarse = Squeezed(Chain(*channel_couplings(c), ActNorm(c), inner))
        return Chain(*checkerboards(channels, 3), coarse)

    whole = level(shape[0], levels)
    if logit:
        whole = Chain(Logit(logit), whole)
    if gaussianize:
        whole = Chain(Gaussianize(gaussianize), whole)
    flow = Flow(
        whole,
        shape,
        condition=condition,
        maps=how == "concat",
        multiple=2 ** (levels - 1),
    )
    return set_memory(flow, memory, anchor_every)
