"""Batched L-BFGS: many independent minimisations, one line search per item.

Liu & Nocedal, Math. Programming 45 (1989). All items that still run are evaluated together, each
at its own trial point, whether it is in the middle of a line search or at the start of a new one;
finished items leave the batch. Vectors are handled for the whole batch at once, the few scalars of
each line search in Python.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .line_search import LineSearch
from .result import LOST, UNCHANGED, VANISHES, Book, Objective, Result, Round


def minimize(
    fun: Callable,
    z0: Tensor,
    *,
    max_iter: int = 200,
    history: int = 10,
    tol_grad: float = 1e-5,
    tol_change: float = 1e-9,
    max_evals: int | None = None,
    callback: Callable[[Round], bool | None] | None = None,
    precondition: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Result:
    """Minimise fun for every item of z0.

    No item influences another: each has its own step, history and stop. A value or gradient that
    is NaN or Inf counts as a step too far, and that item backtracks; if it fails for good it keeps
    its best point. Ctrl-C ends the search and returns the best points so far.

    Args:
        fun: ``fun(z, idx)`` or ``fun(z)`` for points z (b, ...) of the items idx (b,); returns
            values (b,), or (values, gradients like z).
        z0: starting points (B, ...), float32 or float64.
        max_iter: most accepted steps of an item.
        history: number of past steps that shape the direction.
        tol_grad: an item converges when no entry of its gradient exceeds this.
        tol_change: or when two steps in a row lower the value by less than this, relatively.
        max_evals: most evaluations of an item.
        callback: sees a `Round` after every round; returning True stops all items.
        precondition: ``precondition(r, idx)`` multiplies r (b, ...) by a symmetric positive matrix of
            the items idx that is like the inverse Hessian; the directions begin with it.
    """
    book = Book(len(z0), tol_grad, max_iter, max_evals or None)
    return _Run(fun, z0, history, tol_change, book, precondition).run(callback)


class _Run:
    def __init__(self, fun, z0: Tensor, history: int, tol_change: float, book: Book, precondition):
        self.objective, self.book, self.tol_change = Objective(fun, z0), book, tol_change
        self.shape, self.device = z0.shape, z0.device
        self.eps = torch.finfo(z0.dtype).eps

        self.z = z0.detach().flatten(1).clone()
        batch, n = self.z.shape
        self.grad = torch.zeros_like(self.z)
        self.direction = torch.zeros_like(self.z)
        self.grad_lo = torch.zeros_like(self.z)
        self.memory = _Memory(batch, n, history, self.z)
        self.precondition = precondition

        self.value = [float("nan")] * batch
        self.grad_norm = [float("nan")] * batch
        self.small_steps = [0] * batch
        self.status = book.status
        self.search: list[LineSearch | None] = [None] * batch

    def run(self, callback) -> Result:
        active = list(range(self.shape[0]))
        rounds = 0
        try:
            active = self._start(active) if active else []
            rounds = 1
            while active and not self._stopped(callback, rounds, active):
                active = self._round(active)
                rounds += 1
            if not active and callback is not None:
                callback(self._progress(rounds, active))
        except KeyboardInterrupt:
            self.book.end(range(self.shape[0]), "interrupted")
        value, grad_norm = (
            torch.tensor(numbers, dtype=torch.float64).to(self.z)
            for numbers in (self.value, self.grad_norm)
        )
        return self.book.result(self.z.reshape(self.shape), value, grad_norm)

    def _start(self, items):
        values, grads = self._evaluate(self.z, items)
        finite = torch.isfinite(grads).all(1) & torch.isfinite(values)
        self.grad.copy_(torch.where(finite[:, None], grads, 0))
        numbers = _scalars(values, grads.abs().amax(1), finite)
        for i, (value, norm, ok) in zip(items, numbers, strict=True):
            self.value[i], self.grad_norm[i] = value, norm
            self.book.trace[i].append(value)
            if not ok:
                self.status[i] = LOST
            else:
                self._test_convergence(i)
        running = self.book.running(items)
        self._aim(running)
        return self.book.running(running)

    def _round(self, active):
        """Evaluate one trial of every active item and act on each verdict."""
        idx = self._index(active)
        steps = torch.tensor([self.search[i].step for i in active], dtype=torch.float64)
        steps = steps.to(self.z)[:, None]
        direction = self.direction[idx]
        trial = torch.addcmul(self.z[idx], steps, direction)
        values, grads = self._evaluate(trial, active)
        slopes = (grads * direction).sum(1)
        numbers = _scalars(values, slopes, grads.abs().amax(1))

        accepted, settled, better, restart = [], [], [], []
        for row, (i, (value, slope, norm)) in enumerate(zip(active, numbers, strict=True)):
            verdict = self.search[i].tell(value, slope)
            if verdict == "accept":
                accepted.append(row)
                self._book(i, value, norm)
            elif verdict == "settle":
                settled.append(i)
                self._book(i, self.search[i].lo[1], None)
            elif verdict == "better":
                better.append(row)
            elif verdict == "fail":
                restart.append(i)

        if better:
            rows = torch.tensor(better, device=self.device)
            self.grad_lo[self._index([active[r] for r in better])] = grads[rows]
        if accepted:
            items = [active[r] for r in accepted]
            rows = torch.tensor(accepted, device=self.device)
            self._move(items, trial[rows], grads[rows])
        if settled:
            items = self._index(settled)
            lo = torch.tensor([self.search[i].lo[0] for i in settled], dtype=torch.float64)
            point = torch.addcmul(self.z[items], lo.to(self.z)[:, None], self.direction[items])
            self._move(settled, point, self.grad_lo[items])
            for i in settled:
                self.grad_norm[i] = float(self.grad[i].abs().max())
        self._give_up_or_forget(restart)

        moved = [active[r] for r in accepted] + settled
        for i in moved:
            self._test_convergence(i)
        running = self.book.running(active)
        self._aim(sorted({*moved, *restart} & {*running}))
        return self.book.running(running)

    def _book(self, i, value, norm):
        small = self.value[i] - value <= self.tol_change * max(abs(value), abs(self.value[i]))
        self.small_steps[i] = self.small_steps[i] + 1 if small else 0
        self.value[i] = value
        if norm is not None:
            self.grad_norm[i] = norm
        self.book.steps[i] += 1
        self.book.trace[i].append(value)

    def _move(self, items, point, grad):
        idx = self._index(items)
        self.memory.push(items, idx, point - self.z[idx], grad - self.grad[idx])
        self.z[idx], self.grad[idx] = point, grad

    def _give_up_or_forget(self, items):
        """A search failed: once more along the plain gradient, then for good."""
        for i in items:
            if self.memory.count[i]:
                continue
            if self.search[i].at_rounding():
                self.status[i] = "converged: no decrease above rounding"
            else:
                self.status[i] = "failed: the line search found no decrease"
        self.memory.forget([i for i in items if not self.status[i]])

    def _test_convergence(self, i):
        if self.grad_norm[i] <= self.book.tol_grad:
            self.status[i] = VANISHES
        elif self.small_steps[i] >= 2:
            self.status[i] = UNCHANGED
        elif self.book.steps[i] >= self.book.max_iter:
            self.status[i] = "max_iter"

    def _aim(self, items):
        """New directions and line searches for these items."""
        if not items:
            return
        idx = self._index(items)
        grad = self.grad[idx]
        begin = None if self.precondition is None else lambda r: self._preconditioned(r, items)
        direction = -self.memory.multiply(items, idx, grad, begin)
        numbers = _scalars((grad * direction).sum(1), grad.norm(dim=1))
        uphill = [r for r, (slope, _) in enumerate(numbers) if not slope < 0]
        if uphill:
            self.memory.forget([items[r] for r in uphill])
            turned = torch.tensor(uphill, device=self.device)
            direction[turned] = -grad[turned]
        self.direction[idx] = direction
        for row, (i, (slope, norm)) in enumerate(zip(items, numbers, strict=True)):
            if row in uphill:
                slope = -norm * norm
            if not slope < 0:
                self.status[i] = "failed: the gradient underflows"
                continue
            known = self.memory.count[i] or (begin is not None and row not in uphill)
            step = 1.0 if known else min(1.0, 1.0 / norm)
            rounding = 10 * self.eps * abs(self.value[i])
            self.search[i] = LineSearch(self.value[i], slope, step, rounding)

    def _preconditioned(self, r, items):
        index = torch.tensor(items, device=self.device)
        return self.precondition(r.view(-1, *self.shape[1:]), index).reshape(r.shape)

    def _evaluate(self, points, items):
        for i in items:
            self.book.evals[i] += 1
        index = torch.tensor(items, device=self.device)
        return self.objective(points, index)

    def _index(self, items):
        # a slice of the whole batch is a view: no copy while every item still runs
        if len(items) == self.shape[0]:
            return slice(None)
        return torch.tensor(items, device=self.device)

    def _stopped(self, callback, rounds, active):
        if callback is None or not callback(self._progress(rounds, active)):
            return False
        self.book.end(active, "stopped")
        return True

    def _progress(self, rounds, active):
        return Round(
            rounds,
            len(active),
            torch.tensor(self.value),
            torch.tensor(self.grad_norm),
            self.z.reshape(self.shape),
        )


class _Memory:
    """The last steps s and gradient differences y of every item, each in its own ring."""

    def __init__(self, batch: int, n: int, history: int, like: Tensor):
        self.size = max(1, history)
        # grown on demand: a short run of a long history should not pay for it
        self.s = like.new_zeros(batch, 0, n)
        self.y = like.new_zeros(batch, 0, n)
        self.sy = like.new_ones(batch, self.size)
        self.scale = like.new_ones(batch)
        self.count = [0] * batch

    def push(self, items, idx, s: Tensor, y: Tensor) -> None:
        """Remember a step, unless its curvature is not clearly positive."""
        sy, ss, yy = (s * y).sum(1), (s * s).sum(1), (y * y).sum(1)
        # the bound only excludes rounding: strong Wolfe steps have positive curvature
        good = (sy > 10 * torch.finfo(s.dtype).eps * (ss * yy).sqrt()).tolist()
        rows = [r for r, ok in enumerate(good) if ok]
        if not rows:
            return
        kept = [items[r] for r in rows]
        slots = [self.count[i] % self.size for i in kept]
        self._grow(max(slots) + 1)
        where = (torch.tensor(kept, device=s.device), torch.tensor(slots, device=s.device))
        good_ones = torch.tensor(rows, device=s.device)
        s, y, sy, yy = (t[good_ones] for t in (s, y, sy, yy))
        self.s[where], self.y[where], self.sy[where] = s, y, sy
        self.scale[where[0]] = sy / yy
        for i in kept:
            self.count[i] += 1

    def forget(self, items) -> None:
        if items:
            rows = torch.tensor(items, device=self.s.device)
            self.s[rows], self.y[rows], self.sy[rows], self.scale[rows] = 0, 0, 1, 1
        for i in items:
            self.count[i] = 0

    def multiply(self, items, idx, grad: Tensor, begin=None) -> Tensor:
        """The two-loop recursion: (inverse Hessian estimate) @ grad; it begins with ``begin``, or I."""
        width = self.s.shape[1]
        if width == 0:
            return grad if begin is None else begin(grad)
        rows = torch.tensor(items, device=grad.device)
        count = torch.tensor([self.count[i] for i in items], device=grad.device)
        # two buffers for the pairs (s, y) of one age: fresh memory would cost more than the sums
        s, y = torch.empty_like(grad), torch.empty_like(grad)

        def load(age):
            slot = ((count - 1 - age) % self.size).clamp_max(width - 1)
            torch.index_select(self.s.flatten(0, 1), 0, rows * width + slot, out=s)
            torch.index_select(self.y.flatten(0, 1), 0, rows * width + slot, out=y)
            # an item with fewer steps than this age takes no part
            return (age < count).to(grad) / self.sy[rows, slot]

        depth = min(width, max(self.count[i] for i in items))
        r, alphas = grad.clone(), []
        for age in range(depth):
            alpha = load(age) * _dot(s, r)
            r.addcmul_(y, alpha[:, None], value=-1)
            alphas.append(alpha)
        if begin is None:
            r *= self.scale[idx][:, None]
        else:  # scaled so that it is right along the last step
            ratio = load(0)
            ratio = ratio * _dot(y, begin(y))
            r = begin(r) * torch.where(ratio > 0, 1 / ratio, 1.0)[:, None]
        for age in reversed(range(depth)):
            beta = load(age) * _dot(y, r)
            r.addcmul_(s, (alphas[age] - beta)[:, None])
        return r

    def _grow(self, width: int) -> None:
        have = self.s.shape[1]
        if width > have:
            width = min(self.size, max(width, 2 * have, 4))
            pad = self.s.new_zeros(self.s.shape[0], width - have, self.s.shape[2])
            self.s = torch.cat([self.s, pad], 1)
            self.y = torch.cat([self.y, pad], 1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(a[:, None], b[:, :, None]).flatten()


def _scalars(*columns: Tensor) -> list[list[float]]:
    """Per-item numbers in one transfer: a list of rows of Python floats."""
    return torch.stack([c.double() for c in columns], 1).tolist()
