"""What the optimisers share: the objective's contract, the result, the bookkeeping of a batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import torch_private
from ..errors import ShapeError, UsageError


@dataclass
class Result:
    """What `minimize` found; every entry is per item of the batch.

    Attributes:
        z: the minimisers, shaped like z0; the best point of each item, whatever its status.
        value: objective at z, (B,).
        grad_norm: largest absolute entry of the gradient at z, (B,).
        converged: whether a tolerance was reached, (B,) bool.
        n_evals: evaluations of the objective, (B,).
        iterations: accepted steps, (B,).
        status: why each item stopped; starts with "converged", "max_iter", "max_evals",
            "stopped", "interrupted" or "failed".
        trace: the objective after every accepted step, one list per item.
    """

    z: Tensor
    value: Tensor
    grad_norm: Tensor
    converged: Tensor
    n_evals: Tensor
    iterations: Tensor
    status: list[str]
    trace: list[list[float]] = field(repr=False)

    @property
    def finished(self) -> Tensor:
        """Items that converged or made all their steps, (B,): how a search is meant to end."""
        return torch.tensor([s.startswith(("converged", "max")) for s in self.status])

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the search (the best points so far are kept)."""
        return "interrupted" in self.status


@dataclass
class Round:
    """What a callback sees after every round of evaluations; it may return True to stop.

    Attributes:
        rounds: evaluations of the batch so far.
        active: number of items still running.
        value: best objective of each item so far, (B,).
        grad_norm: largest gradient entry of each item at that point, (B,).
        z: these points, shaped like z0. Not a copy: do not write to it.
    """

    rounds: int
    active: int
    value: Tensor
    grad_norm: Tensor
    z: Tensor


class Book:
    """What a minimiser writes down of each item of a batch; an item with a status has ended."""

    def __init__(self, batch: int, tol_grad: float, max_iter: int, max_evals: int | None):
        self.tol_grad, self.max_iter, self.max_evals = tol_grad, max_iter, max_evals
        self.status, self.evals, self.steps = [""] * batch, [0] * batch, [0] * batch
        self.trace: list[list[float]] = [[] for _ in range(batch)]

    def end(self, items: Iterable[int], status: str) -> None:
        for i in items:
            self.status[i] = self.status[i] or status

    def running(self, items: Iterable[int]) -> list[int]:
        """Those that have not ended; who has used up the evaluations ends here."""
        for i in items:
            if self.max_evals is not None and self.evals[i] >= self.max_evals:
                self.end([i], "max_evals")
        return [i for i in items if not self.status[i]]

    def result(self, z: Tensor, value: Tensor, grad_norm: Tensor) -> Result:
        return Result(
            z=z,
            value=value,
            grad_norm=grad_norm,
            converged=torch.tensor([s.startswith("converged") for s in self.status]),
            n_evals=torch.tensor(self.evals),
            iterations=torch.tensor(self.steps),
            status=self.status,
            trace=self.trace,
        )


VANISHES = "converged: the gradient vanishes"
UNCHANGED = "converged: the value no longer changes"
LOST = "failed: the objective is NaN or Inf at the start"


class Objective:
    """Calls the user's function on the items that still run, and returns values and gradients.

    ``fun(z, idx)`` gets the points z (b, ...) of the items idx (b,), so that it can slice its own
    data; ``fun(z)`` is fine too. It returns the values (b,), which are differentiated here, or a
    pair (values (b,), gradients like z).
    """

    def __init__(self, fun: Callable, z0: Tensor):
        if torch_private.transforms_active():
            raise UsageError(
                "a search cannot run inside a transform of torch.func: give it the whole batch, and "
                "differentiate by torch.autograd"
            )
        self.fun = fun if _takes_two(fun) else lambda z, idx: fun(z)
        self.shape = z0.shape[1:]

    def __call__(self, flat: Tensor, idx: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            z = flat.detach().reshape(-1, *self.shape)
            z = (z.clone() if z.is_inference() else z).requires_grad_()
            out = self.fun(z, idx)
            values, grads = out if isinstance(out, tuple) else (out, None)
            if values.shape != (z.shape[0],):
                raise ShapeError(
                    f"the objective must return one value per item, shape ({z.shape[0]},), got "
                    f"{tuple(values.shape)}"
                )
            if grads is None:
                (grads,) = torch.autograd.grad(values.sum(), z)
        return values.detach(), grads.detach().reshape(flat.shape)


def _takes_two(fun: Callable) -> bool:
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        return True
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    needed = [p for p in parameters if p.default is p.empty and p.kind not in _BY_NAME]
    return len(needed) >= 2


_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
