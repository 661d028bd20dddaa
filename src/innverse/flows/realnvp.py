"""RealNVP for vectors."""

from __future__ import annotations

from ..bijections import ActNorm, Affine, Chain, Coupling, Permute, set_memory
from ..errors import UsageError
from ..nets import MLP
from .flow import Flow
from .registry import register


@register
def realnvp(
    shape: tuple[int],
    *,
    layers: int = 8,
    width: int = 128,
    depth: int = 2,
    condition: int = 0,
    how: str = "concat",
    activation: str = "silu",
    bound: float = 2.0,
    memory: str = "store",
    anchor_every: int | None = None,
) -> Flow:
    """Affine couplings with fixed random permutations between (Dinh et al. 2016, 1605.08803).

    Args:
        shape: (D,), D >= 2.
        layers, width, depth: number of couplings; hidden width and depth of each network.
        condition: the size k of a condition c (B, k), taken by ``how`` = "concat" or "film".
        activation: ``"relu"``, ``"silu"`` or ``"gelu"`` in the networks.
        bound: log-scales stay within (-bound, bound).
    """
    if len(shape) != 1 or shape[0] < 2:
        raise UsageError(f"realnvp is for vectors (D,) with D >= 2, got shape {tuple(shape)}")
    (d,) = shape

    def net(n_in: int, n_out: int) -> MLP:
        return MLP(n_in, n_out, width, depth, condition=condition, how=how, activation=activation)

    steps = [
        layer
        for k in range(layers)
        for layer in (ActNorm(d), Permute(d), Coupling.build(d, net, Affine(bound)))
    ]
    flow = Flow(Chain(*steps, ActNorm(d)), shape, condition=condition)
    return set_memory(flow, memory, anchor_every)
