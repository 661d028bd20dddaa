"""Flows of small patches, for images of any size: a prior learned from one picture."""

from __future__ import annotations

from ..bijections import (
    ActNorm,
    Affine,
    Bijection,
    Chain,
    ConditionalScale,
    Cosines,
    Coupling,
    Invertible1x1,
    Positionwise,
)
from ..nets import MLP
from .flow import Flow
from .registry import register

_PLACES = 4  # that a denoiser's views take along an axis


@register(axes=(3,))
def patches(
    shape: tuple[int, int, int],
    *,
    patch: int = 8,
    steps: int = 6,
    hidden: int = 96,
    depth: int = 2,
    condition: int = 0,
    noise: tuple[float, float] | None = None,
    activation: str = "silu",
    width: int = 32,
    bound: float = 2.0,
) -> Flow:
    """The product of the densities of patches, side by side (Zoran & Weiss 2011; PatchNR, Altekrueger
    et al. 2023, arXiv 2205.12021).

    A patch has so few numbers that one picture teaches its density. Patches know nothing of each
    other; where they meet is averaged away by the views of `Flow.denoise`, which lay the grid
    elsewhere each time, and so does every step of the method "pnp": the expected patch
    log-likelihood of Zoran and Weiss, by half-quadratic splitting.

    Args:
        shape: (C, H, W); images of other sizes are taken, and padded to a multiple of ``patch``.
        patch: side of the square patches in pixels, 2 to 32.
        steps, hidden, depth: couplings of a patch's cosine coefficients; width and depth of their
            networks.
        condition: the size k of a vector condition c (B, k).
        noise: (low, high) makes the flow conditional on a noise level instead; its embedding has
            ``width`` features and also scales the coefficients before every coupling.
        activation: ``"relu"``, ``"silu"`` or ``"gelu"`` in the networks.
        bound: log-scales of the couplings stay within (-bound, bound).
    """
    channels = shape[0] * patch**2
    context = width if noise is not None else condition

    def net(n_in: int, n_out: int) -> MLP:
        return MLP(n_in, n_out, hidden, depth, condition=context, activation=activation)

    def normalise() -> list[Bijection]:
        follow = [ConditionalScale(channels, context)] if noise is not None else []
        return [*follow, ActNorm(channels)]

    def step() -> list[Bijection]:
        coupling = Coupling.build(channels, net, Affine(bound))
        return [*normalise(), Invertible1x1(channels, "swap"), coupling]

    layers = [layer for _ in range(steps) for layer in step()]
    flow = Flow(
        Cosines(Positionwise(Chain(*layers, *normalise())), patch),
        shape,
        noise=noise,
        noise_width=width,
        condition=condition,
        maps=False,
        multiple=patch,
    )
    flow.shift = max(1, patch // _PLACES)
    return flow
