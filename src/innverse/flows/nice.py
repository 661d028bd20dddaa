"""NICE: couplings that preserve volume, and one diagonal scale."""

from __future__ import annotations

from ..bijections import ActNorm, Additive, Chain, Coupling, Standardize, set_memory
from ..errors import UsageError
from ..nets import MLP
from .flow import Flow
from .registry import register


@register
def nice(
    shape: tuple[int],
    *,
    layers: int = 8,
    width: int = 128,
    depth: int = 2,
    standardize: bool = True,
    condition: int = 0,
    how: str = "concat",
    activation: str = "silu",
    memory: str = "store",
    anchor_every: int | None = None,
) -> Flow:
    """Additive couplings, z = x + t(kept half), whose halves take turns (Dinh et al. 2014,
    arXiv 1410.8516).

    The couplings preserve volume; the learned diagonal scale at the end (with a shift, set from
    data by `initialize`) is the whole log-determinant, the same for every x without condition.

    Args:
        shape: (D,), D >= 2.
        layers, width, depth: number of couplings; hidden width and depth of each network.
        standardize: begin with a `Standardize`, which `initialize` sets to the units of the data.
        condition: the size k of a condition c (B, k), taken by ``how`` = "concat" or "film".
        activation: ``"relu"``, ``"silu"`` or ``"gelu"`` in the networks.
        memory, anchor_every: what back-propagation keeps, see `Chain`.
    """
    if len(shape) != 1 or shape[0] < 2:
        raise UsageError(f"nice is for vectors (D,) with D >= 2, got shape {tuple(shape)}")
    (d,) = shape

    def net(n_in: int, n_out: int) -> MLP:
        return MLP(n_in, n_out, width, depth, condition=condition, how=how, activation=activation)

    steps = [Coupling.build(d, net, Additive(), swap=k % 2 == 1) for k in range(layers)]
    first = [Standardize(d)] if standardize else []
    return set_memory(
        Flow(Chain(*first, *steps, ActNorm(d)), shape, condition=condition), memory, anchor_every
    )
