"""RealNVP's multi-scale architecture for images."""

from __future__ import annotations

from collections.abc import Callable

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
)
from ..errors import UsageError
from ..nets import ConvResNet
from .flow import Flow
from .registry import register


@register(axes=(3,), name="realnvp")
def realnvp_images(
    shape: tuple[int, int, int],
    *,
    levels: int = 3,
    hidden: int = 64,
    blocks: int = 2,
    logit: float = 0.0,
    gaussianize: int = 0,
    condition: int = 0,
    how: str = "concat",
    activation: str = "silu",
    bound: float = 2.0,
) -> Flow:
    """Dinh et al. 2016 (arXiv 1605.08803), section 3.6 and figure 4.

    Each level: three checkerboard couplings, squeeze, three couplings of channels, and half of
    the channels are factored out. The last level: four checkerboard couplings. ActNorm stands
    where the paper normalises by batches, so that items of a batch stay independent.

    Args:
        shape: (C, H, W); being convolutional, the flow takes any H and W that divide by
            2**(levels - 1), and pads others.
        levels, hidden, blocks: number of scales; channels and residual blocks of each network.
        logit: alpha in (0, 0.5) of `Logit` before the couplings, as in the paper (.05); 0 leaves it
            out, and values outside [0, 1] are then allowed.
        gaussianize: bins of a learned histogram of the pixels in place of the logit, see
            `Gaussianize`: 256 for 8-bit images that are mostly black; 0 for none.
        condition: the size k of a condition c, a vector (B, k) or a map (B, k, h, w).
        how: a vector condition enters the networks by ``"concat"`` or ``"film"``.
        activation: ``"relu"``, ``"silu"`` or ``"gelu"`` in the networks.
        bound: log-scales stay within (-bound, bound).
    """
    if levels < 1:
        raise UsageError(f"levels={levels}: at least 1")
    if not 0 <= logit < 0.5:
        raise UsageError(f"logit={logit}: choose alpha between 0 (none) and 0.5")
    if logit and gaussianize:
        raise UsageError("logit and gaussianize do the same work: choose one")

    def net(n_in: int, n_out: int) -> ConvResNet:
        options = {"condition": condition, "how": how, "activation": activation}
        return ConvResNet(n_in, n_out, hidden, blocks, **options)

    def checkerboard(channels: int, swap: bool) -> Bijection:
        return Checkerboard(net(channels, 2 * channels), Affine(bound), swap=swap)

    def of_channels(channels: int, swap: bool) -> Bijection:
        return Coupling.build(channels, net, Affine(bound), swap=swap)

    def couplings(make: Callable, channels: int, n: int) -> list[Bijection]:
        """They take turns at what they keep."""
        steps = ((ActNorm(channels), make(channels, k % 2 == 1)) for k in range(n))
        return [layer for step in steps for layer in step]

    def level(channels: int, remaining: int) -> Bijection:
        if remaining == 1:
            return Chain(*couplings(checkerboard, channels, 4), ActNorm(channels))
        c = 4 * channels
        inner = Partial(level(c // 2, remaining - 1), c // 2)
        coarse = Squeezed(Chain(*couplings(of_channels, c, 3), ActNorm(c), inner))
        return Chain(*couplings(checkerboard, channels, 3), coarse)

    whole = level(shape[0], levels)
    if logit:
        whole = Chain(Logit(logit), whole)
    if gaussianize:
        whole = Chain(Gaussianize(gaussianize), whole)
    maps = how == "concat"
    return Flow(whole, shape, condition=condition, maps=maps, multiple=2 ** (levels - 1))
