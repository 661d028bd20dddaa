"""Batched Adam: the same contract as `lbfgs.minimize`, for noisy or rough objectives."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .result import LOST, UNCHANGED, VANISHES, Book, Objective, Result, Round

MAX_RETREATS = 10


def minimize(
    fun: Callable,
    z0: Tensor,
    *,
    max_iter: int = 500,
    lr: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.99),
    decay: bool = True,
    tol_grad: float = 1e-5,
    tol_change: float = 0.0,
    max_evals: int | None = None,
    callback: Callable[[Round], bool | None] | None = None,
) -> Result:
    """Minimise fun for every item of z0 by Adam (Kingma & Ba, 2015).

    Items are independent. An item that meets NaN or Inf returns to its best point with a tenth of
    its learning rate, and fails after ten such retreats. The best point of each item is returned.

    Args:
        fun, z0, tol_grad, max_evals, callback: as for `lbfgs.minimize`.
        max_iter: steps of each item.
        lr: first learning rate; with ``decay`` it follows half a cosine to zero at max_iter.
        betas: averaging of the gradient and of its square.
        tol_change: an item converges when 20 steps lower its best value by less than this,
            relatively; 0 never stops early.
    """
    objective = Objective(fun, z0)
    z = z0.detach().flatten(1).clone()
    batch = z.shape[0]
    best, mean, square = z.clone(), torch.zeros_like(z), torch.zeros_like(z)
    # scalars per item: steps since the last retreat, learning rate, best value and its gradient
    age, rate = torch.zeros(batch).to(z), torch.full((batch,), lr).to(z)
    value, norm = torch.full_like(rate, math.inf), torch.full_like(rate, math.nan)
    mark, retreats = value.clone(), [0] * batch
    book = Book(batch, tol_grad, max_iter, max_evals)
    steps, status = book.steps, book.status
    active = list(range(batch))
    rounds = 0
    try:
        while active:
            idx = torch.tensor(active, device=z.device)
            values, grads = objective(z[idx], idx)
            rounds += 1
            size = grads.abs().amax(1)
            finite = torch.isfinite(values) & torch.isfinite(size)
            lower = finite & (values < value[idx])
            rows = idx[lower]
            best[rows], value[rows], norm[rows] = z[rows], values[lower], size[lower]

            for row, (i, ok) in enumerate(zip(active, finite.tolist(), strict=True)):
                book.evals[i] += 1
                if ok:
                    book.trace[i].append(float(values[row]))
                    if float(size[row]) <= tol_grad:
                        status[i] = VANISHES
                elif not book.trace[i]:
                    status[i] = LOST
                else:
                    retreats[i] += 1
                    if retreats[i] >= MAX_RETREATS:
                        status[i] = "failed: the objective keeps turning NaN or Inf"
            lost = idx[~finite]
            z[lost], mean[lost], square[lost], age[lost] = best[lost], 0, 0, 0
            rate[lost] *= 0.1

            go = idx[finite]
            g = grads[finite]
            age[go] += 1
            mean[go] = betas[0] * mean[go] + (1 - betas[0]) * g
            square[go] = betas[1] * square[go] + (1 - betas[1]) * g * g
            t = age[go][:, None]
            done = torch.tensor([steps[i] for i in go.tolist()]).to(z) / max(1, max_iter)
            current = rate[go] * (0.5 + 0.5 * torch.cos(math.pi * done)) if decay else rate[go]
            first, second = mean[go] / (1 - betas[0] ** t), square[go] / (1 - betas[1] ** t)
            # an item that has just converged stays where its gradient was measured
            stay = torch.tensor([bool(status[i]) for i in go.tolist()]).to(z.device, torch.bool)
            moved = z[go] - current[:, None] * first / (second.sqrt() + 1e-8)
            z[go] = torch.where(stay[:, None], z[go], moved)

            for i in go.tolist():
                if status[i]:
                    continue
                steps[i] += 1
                if tol_change > 0 and steps[i] % 20 == 0:
                    now, before = float(value[i]), float(mark[i])
                    if before - now <= tol_change * max(abs(now), abs(before)):
                        status[i] = UNCHANGED
                    mark[i] = value[i]
                if not status[i] and steps[i] >= max_iter:
                    status[i] = "max_iter"
            active = book.running(active)
            seen = Round(rounds, len(active), value, norm, best.reshape(z0.shape))
            if callback is not None and callback(seen):
                book.end(active, "stopped")
                active = []
    except KeyboardInterrupt:
        book.end(active, "interrupted")
    value = torch.where(torch.isinf(value), math.nan, value)
    return book.result(best.reshape(z0.shape), value, norm)
