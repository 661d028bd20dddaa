"""Couplings for vectors, and the flows of the papers that are such: NICE, RealNVP, NSF."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ..bijections import ActNorm, Bijection, Chain, Coupling, Invertible1x1, Permute, Standardize
from ..bijections.elementwise import Elementwise
from ..errors import UsageError
from .flow import Flow
from .networks import as_network
from .registry import FLOWS, register
from .transforms import as_transform

MIXINGS = ("permute", "lu", "swap")


@register(axes=(1,))
def coupling(
    shape: tuple[int],
    *,
    transform: str | Elementwise = "affine",
    net: str | Callable[..., nn.Module] = "mlp",
    layers: int = 8,
    width: int = 128,
    depth: int = 2,
    mix: str = "permute",
    norm: bool = True,
    scale: bool = False,
    standardize: bool = True,
    bins: int | None = None,
    bound: float | None = None,
    condition: int = 0,
    how: str = "concat",
    activation: str = "silu",
) -> Flow:
    """Couplings of halves (Dinh et al. 2014, 2016): one half drives the ``transform`` of the other.

    Args:
        shape: (D,), D >= 2.
        transform: of each coordinate: ``"affine"``, ``"additive"``, ``"spline"``, what was
            registered by `register_transform`, or an `Elementwise`.
        net: ``"mlp"``, what was registered by `register_network`, or a function
            ``net(n_in, n_out, ...)`` that gives a module of (x, c); it gets those of the options
            ``width``, ``depth``, ``condition``, ``how`` and ``activation`` that it takes.
        layers, width, depth: number of couplings; hidden width and depth of each network.
        mix: between the couplings ``"permute"`` (fixed, random), ``"lu"`` (a learned matrix) or
            ``"swap"`` (the halves take turns).
        norm: ActNorm before every coupling and at the end.
        scale: end with a learned scale and shift of each coordinate, as ``norm`` does.
        standardize: begin with a `Standardize`, which `initialize` sets to the units of the data.
        bins, bound: of a spline, its pieces (8) and the interval [-bound, bound] (5) outside which
            it is the identity; affine log-scales stay within (-bound, bound) (2).
        condition: the size k of a condition c (B, k), taken by ``how`` = "concat" or "film".
        activation: ``"relu"``, ``"silu"`` or ``"gelu"`` in the networks.
    """
    (d,) = shape
    if d < 2:
        raise UsageError(f"couplings are for vectors (D,) with D >= 2, got shape {shape}")
    if mix not in MIXINGS:
        raise UsageError(f"mix={mix!r}: choose one of {', '.join(MIXINGS)}")
    chosen = as_transform(transform, bins=bins, bound=bound)
    options = {"condition": condition, "how": how, "activation": activation}
    make = as_network(net, width=width, depth=depth, **options)

    def step(k: int) -> list[Bijection]:
        normalise = [ActNorm(d)] if norm else []
        mixing = {"permute": [Permute], "lu": [Invertible1x1], "swap": []}[mix]
        swap = mix == "swap" and k % 2 == 1
        return [*normalise, *(m(d) for m in mixing), Coupling.build(d, make, chosen, swap=swap)]

    steps = [layer for k in range(layers) for layer in step(k)]
    first = [Standardize(d)] if standardize else []
    last = [ActNorm(d)] if norm or scale else []
    return Flow(Chain(*first, *steps, *last), shape, condition=condition)


nice = FLOWS.preset(
    "nice",
    coupling,
    """Additive couplings, z = x + t(kept half), whose halves take turns (Dinh et al. 2014,
    arXiv 1410.8516).

    The couplings preserve volume; the learned diagonal scale at the end is the whole
    log-determinant, the same for every x without condition.""",
    fixed=("transform", "bins", "bound", "scale"),
    transform="additive",
    mix="swap",
    norm=False,
    scale=True,
)
realnvp = FLOWS.preset(
    "realnvp",
    coupling,
    """Affine couplings of vectors (Dinh et al. 2016, arXiv 1605.08803); for images see
    `realnvp_images`.""",
    fixed=("transform", "bins", "scale"),
)
nsf = FLOWS.preset(
    "nsf",
    coupling,
    """Neural spline flow: rational-quadratic spline couplings with learned LU mixing, RQ-NSF (C)
    (Durkan et al. 2019, arXiv 1906.04032).""",
    fixed=("transform", "scale"),
    transform="spline",
    mix="lu",
)
