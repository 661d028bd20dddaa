"""RealNVP for vectors."""

from __future__ import annotations

from ..bijections import Affine
from .couplings import couplings
from .flow import Flow
from .registry import register


@register
def realnvp(
    shape: tuple[int],
    *,
    layers: int = 8,
    width: int = 128,
    depth: int = 2,
    mix: str = "permute",
    norm: bool = True,
    condition: int = 0,
    how: str = "concat",
    activation: str = "silu",
    bound: float = 2.0,
    memory: str = "store",
    anchor_every: int | None = None,
) -> Flow:
    """Affine couplings with a mixing of the coordinates between (Dinh et al. 2016, 1605.08803).

    Args:
        shape: (D,), D >= 2.
        layers, width, depth: number of couplings; hidden width and depth of each network.
        mix: between the couplings ``"permute"`` (fixed, random), ``"lu"`` (a learned matrix) or
            ``"swap"`` (the halves take turns).
        norm: ActNorm before every coupling and at the end.
        condition: the size k of a condition c (B, k), taken by ``how`` = "concat" or "film".
        activation: ``"relu"``, ``"silu"`` or ``"gelu"`` in the networks.
        bound: log-scales stay within (-bound, bound).
        memory, anchor_every: what back-propagation keeps, see `Chain`.
    """
    return couplings(
        "realnvp",
        shape,
        Affine(bound),
        layers=layers,
        mix=mix,
        norm=norm,
        width=width,
        depth=depth,
        condition=condition,
        how=how,
        activation=activation,
        memory=memory,
        anchor_every=anchor_every,
    )
