"""Autoregressive flows for vectors: MAF, fast to evaluate, and IAF, fast to sample."""

from __future__ import annotations

import torch

from ..bijections import (
    ActNorm,
    Autoregressive,
    Bijection,
    Chain,
    Inverse,
    Invertible1x1,
    Permute,
    Standardize,
)
from ..bijections.elementwise import Elementwise
from ..errors import UsageError
from ..nets import MADE
from .flow import Flow
from .registry import FLOWS, register
from .transforms import as_transform

MIXINGS = ("reverse", "permute", "lu")


@register(axes=(1,))
def autoregressive(
    shape: tuple[int],
    *,
    transform: str | Elementwise = "affine",
    inverse: bool = False,
    layers: int = 8,
    width: int = 128,
    depth: int = 2,
    bins: int | None = None,
    passes: int | None = None,
    mix: str = "reverse",
    norm: bool = True,
    standardize: bool = True,
    condition: int = 0,
    how: str = "concat",
    activation: str = "silu",
    bound: float | None = None,
) -> Flow:
    """z_i = transform(x_i; x_<i), repeated; with ``inverse`` x_i = transform^-1(z_i; z_<i).

    A density takes one pass of each network and a sample ``passes``; with ``inverse`` a sample, and
    its own density, take one, the density of given data ``passes``.

    Args:
        shape: (D,).
        transform: of each coordinate: ``"affine"``, ``"additive"``, ``"spline"``, what was
            registered by `register_transform`, or an `Elementwise`.
        inverse: turn each layer round.
        layers, width, depth: number of layers; hidden width and depth of each network.
        passes: divide the coordinates into this many groups, 1 to D; those of one group do not
            see each other. None: D groups. Fewer make the slow direction faster.
        mix: between the layers ``"reverse"`` (the order turns round), ``"permute"`` (fixed,
            random) or ``"lu"`` (a learned matrix).
        norm: ActNorm before every layer and at the end.
        standardize: begin with a `Standardize`, which `initialize` sets to the units of the data.
        condition: the size k of a condition c (B, k), taken by ``how`` = "concat" or "film".
        activation: ``"relu"``, ``"silu"`` or ``"gelu"`` in the networks.
        bins, bound: of a spline, its pieces (8) and the interval [-bound, bound] (5) outside which
            it is the identity; affine log-scales stay within (-bound, bound) (2).
    """
    (d,) = shape
    groups = d if passes is None else passes
    if not 1 <= groups <= d:
        raise UsageError(f"passes={passes}: choose 1 to {d}, the number of coordinates")
    if mix not in MIXINGS:
        raise UsageError(f"mix={mix!r}: choose one of {', '.join(MIXINGS)}")
    chosen = as_transform(transform, bins=bins, bound=bound)
    order = [i * groups // d for i in range(d)]
    options: dict = {"condition": condition, "how": how, "activation": activation}

    def mixing() -> Bijection:
        if mix == "reverse":
            return Permute(d, torch.arange(d).flip(0))
        return Permute(d) if mix == "permute" else Invertible1x1(d)

    def step() -> list[Bijection]:
        normalise, mixed = [ActNorm(d)] if norm else [], mixing()
        net = MADE(d, chosen.n_params, width, depth, order=order, **options)
        layer = Autoregressive(net, chosen)
        return [*normalise, mixed, Inverse(layer) if inverse else layer]

    steps = [part for _ in range(layers) for part in step()]
    first = [Standardize(d)] if standardize else []
    last = [ActNorm(d)] if norm else []
    return Flow(Chain(*first, *steps, *last), shape, condition=condition)


maf = FLOWS.preset(
    "maf",
    autoregressive,
    """Masked autoregressive flow (Papamakarios et al. 2017, arXiv 1705.07057); with
    ``transform="spline"`` RQ-NSF (AR) of Durkan et al. 2019 (1906.04032).""",
    fixed=("inverse",),
)
iaf = FLOWS.preset(
    "iaf",
    autoregressive,
    """Inverse autoregressive flow (Kingma et al. 2016, arXiv 1606.04934): `maf` with each layer
    turned round, so that samples and their own density take one pass of each network.""",
    fixed=("inverse",),
    inverse=True,
)
