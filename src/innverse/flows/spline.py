"""The neural spline flow for vectors."""

from __future__ import annotations

from ..bijections import RationalQuadraticSpline
from .couplings import couplings
from .flow import Flow
from .registry import register


@register
def spline(
    shape: tuple[int],
    *,
    layers: int = 8,
    width: int = 128,
    depth: int = 2,
    bins: int = 8,
    mix: str = "lu",
    norm: bool = True,
    standardize: bool = True,
    condition: int = 0,
    how: str = "concat",
    activation: str = "silu",
    bound: float = 5.0,
    memory: str = "store",
    anchor_every: int | None = None,
) -> Flow:
    """Rational-quadratic spline couplings with learned LU mixing: RQ-NSF (C), Durkan et al. 2019
    (arXiv 1906.04032).

    Args:
        shape: (D,), D >= 2.
        layers, width, depth: number of couplings; hidden width and depth of each network.
        bins, bound: pieces of each spline, on [-bound, bound]; outside it is the identity.
        mix: between the couplings ``"lu"`` (a learned matrix), ``"permute"`` (fixed, random) or
            ``"swap"`` (the halves take turns).
        norm: ActNorm before every coupling and at the end, so that the data fill the splines.
        standardize: begin with a `Standardize`, which `initialize` sets to the units of the data.
        condition: the size k of a condition c (B, k), taken by ``how`` = "concat" or "film".
        activation: ``"relu"``, ``"silu"`` or ``"gelu"`` in the networks.
        memory, anchor_every: what back-propagation keeps, see `Chain`.
    """
    return couplings(
        "spline",
        shape,
        RationalQuadraticSpline(bins, bound),
        layers=layers,
        mix=mix,
        norm=norm,
        standardize=standardize,
        width=width,
        depth=depth,
        condition=condition,
        how=how,
        activation=activation,
        memory=memory,
        anchor_every=anchor_every,
    )
