"""What iterative baselines share: how they begin, when an item stops, what they hand back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ...errors import ShapeError, UsageError
from ...physics import LinearPhysics

CHECK_EVERY = 10  # iterations


@dataclass
class Iterate:
    """Images x (B, C, H, W); per item the iterations it took, and whether it settled (B,)."""

    x: Tensor
    iterations: Tensor
    settled: Tensor


class State(Protocol):
    """An iteration of several items at once; ``point`` (b, ...) is what comes to rest."""

    point: Tensor

    def iterate(self) -> None: ...

    def images(self) -> Tensor: ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these items only."""
        ...


def begin(
    y: Tensor, physics: LinearPhysics, lam: float | Tensor, name: str, *, above: bool
) -> tuple[Tensor, Tensor]:
    """The weight of each item (B,), and A^T y, both checked."""
    lam = torch.as_tensor(lam, dtype=y.dtype, device=y.device).reshape(-1)
    if not bool((lam > 0 if above else lam >= 0).all()):
        sign = ">" if above else ">="
        raise UsageError(f"the {name} lam must be {sign} 0, got {lam.tolist()}")
    if lam.numel() not in (1, len(y)):
        raise ShapeError(f"{lam.numel()} {name}s for a batch of {len(y)} items")
    back = physics.A_adjoint(y)
    if back.ndim != 4:
        raise ShapeError(f"A_adjoint must give images (B, C, H, W), got {tuple(back.shape)}")
    return lam.expand(len(y)), back


def run(
    state: State,
    iters: int,
    tol: float,
    callback: Callable[[int, Tensor], bool | None] | None = None,
) -> Iterate:
    """Iterate until ten iterations change each item by no more than ``tol``, relatively.

    Items stop by themselves, and those that have leave the batch.
    """
    out, last = state.images().clone(), state.point
    items = torch.arange(len(out), device=out.device)
    iterations, settled = torch.zeros(len(out), dtype=torch.long), torch.zeros(len(out)).bool()
    for k in range(1, iters + 1):
        state.iterate()
        if k % CHECK_EVERY and k != iters:
            continue
        out[items] = state.images()
        iterations[items.cpu()] = k
        size = state.point.flatten(1).norm(dim=1).clamp_min(1e-12)
        running = (state.point - last).flatten(1).norm(dim=1) / size > tol
        last = state.point
        if callback is not None and callback(k, out):
            break
        settled[items.cpu()] = ~running.cpu()
        if not bool(running.all()):
            keep = running.nonzero().flatten()
            if keep.numel() == 0:
                break
            items, last = items[keep], last[keep]
            state.keep(keep)
    return Iterate(out, iterations, settled)
