"""Autoregressive flows: MAF, fast to evaluate, and IAF, fast to sample."""

from __future__ import annotations

import torch

from ..bijections import (
    ActNorm,
    Affine,
    Autoregressive,
    Bijection,
    Chain,
    Inverse,
    Invertible1x1,
    Permute,
    RationalQuadraticSpline,
    Standardize,
    set_memory,
)
from ..errors import UsageError
from ..nets import MADE
from .flow import Flow
from .registry import register

MIXINGS = ("reverse", "permute", "lu")
MAPS = ("affine", "spline")


@register
def maf(
    shape: tuple[int],
    *,
    layers: int = 8,
    width: int = 128,
    depth: int = 2,
    map: str = "affine",
    bins: int = 8,
    passes: int | None = None,
    mix: str = "reverse",
    norm: bool = True,
    standardize: bool = True,
    condition: int = 0,
    how: str = "concat",
    activation: str = "silu",
    bound: float | None = None,
    memory: str = "store",
    anchor_every: int | None = None,
) -> Flow:
    """Masked autoregressive flow: z_i = map(x_i; x_<i), repeated (Papamakarios et al. 2017,
    arXiv 1705.07057); with ``map="spline"`` RQ-NSF (AR) of Durkan et al. 2019 (1906.04032).

    A density takes one pass of each network, a sample ``passes``.

    Args:
        shape: (D,).
        layers, width, depth: number of layers; hidden width and depth of each network.
        map: of each coordinate, ``"affine"`` or ``"spline"`` with ``bins`` pieces.
        passes: divide the coordinates into this many groups, 1 to D; those of one group do not
            see each other. None: D groups. Fewer make the slow direction faster.
        mix: between the layers ``"reverse"`` (the order turns round), ``"permute"`` (fixed,
            random) or ``"lu"`` (a learned matrix).
        norm: ActNorm before every layer and at the end.
        standardize: begin with a `Standardize`, which `initialize` sets to the units of the data.
        condition: the size k of a condition c (B, k), taken by ``how`` = "concat" or "film".
        activation: ``"relu"``, ``"silu"`` or ``"gelu"`` in the networks.
        bound: log-scales stay within (-bound, bound), default 2; splines act on
            [-bound, bound], default 5.
        memory, anchor_every: what back-propagation keeps, see `Chain`.
    """
    options = {"condition": condition, "how": how, "activation": activation}
    layer = _layer("maf", shape, map, bins, bound, width, depth, passes, options)
    return _flow(
        "maf", shape, layer, layers, mix, norm, standardize, condition, memory, anchor_every
    )


@register
def iaf(
    shape: tuple[int],
    *,
    layers: int = 8,
    width: int = 128,
    depth: int = 2,
    map: str = "affine",
    bins: int = 8,
    passes: int | None = None,
    mix: str = "reverse",
    norm: bool = True,
    standardize: bool = True,
    condition: int = 0,
    how: str = "concat",
    activation: str = "silu",
    bound: float | None = None,
    memory: str = "store",
    anchor_every: int | None = None,
) -> Flow:
    """Inverse autoregressive flow: x_i = map^-1(z_i; z_<i), repeated (Kingma et al. 2016,
    arXiv 1606.04934).

    `maf` with each layer turned round: a sample, and its own density, take one pass of each
    network; the density of given data, and so a step of maximum likelihood, takes ``passes``.
    Options as for `maf`.
    """
    options = {"condition": condition, "how": how, "activation": activation}
    layer = _layer("iaf", shape, map, bins, bound, width, depth, passes, options)

    def inverse() -> Bijection:
        return Inverse(layer())

    return _flow(
        "iaf", shape, inverse, layers, mix, norm, standardize, condition, memory, anchor_every
    )


def _layer(name, shape, map, bins, bound, width, depth, passes, options):
    """A function that makes one autoregressive layer; wrong options: UsageError."""
    if len(shape) != 1 or shape[0] < 1:
        raise UsageError(f"{name} is for vectors (D,), got shape {tuple(shape)}")
    if map not in MAPS:
        raise UsageError(f"map={map!r}: choose one of {', '.join(MAPS)}")
    (d,) = shape
    groups = d if passes is None else passes
    if not 1 <= groups <= d:
        raise UsageError(f"passes={passes}: choose 1 to {d}, the number of coordinates")
    order = [i * groups // d for i in range(d)]

    def make() -> Autoregressive:
        if map == "affine":
            formula = Affine(2.0 if bound is None else bound)
        else:
            formula = RationalQuadraticSpline(bins, 5.0 if bound is None else bound)
        return Autoregressive(
            MADE(d, formula.n_params, width, depth, order=order, **options), formula
        )

    return make


def _flow(
    name, shape, layer, layers, mix, norm, standardize, condition, memory, anchor_every
) -> Flow:
    """``layers`` times [ActNorm,] mixing, layer."""
    if mix not in MIXINGS:
        raise UsageError(f"mix={mix!r}: choose one of {', '.join(MIXINGS)}")
    (d,) = shape

    def mixing() -> Bijection:
        if mix == "reverse":
            return Permute(d, torch.arange(d).flip(0))
        return Permute(d) if mix == "permute" else Invertible1x1(d)

    def step() -> list[Bijection]:
        return [*([ActNorm(d)] if norm else []), mixing(), layer()]

    steps = [part for _ in range(layers) for part in step()]
    first = [Standardize(d)] if standardize else []
    last = [ActNorm(d)] if norm else []
    flow = Flow(Chain(*first, *steps, *last), shape, condition=condition)
    return set_memory(flow, memory, anchor_every)
