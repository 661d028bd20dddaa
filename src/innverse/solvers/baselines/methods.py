"""The Lasso and total variation as methods of `innverse.solve`."""

from __future__ import annotations

from torch import Tensor

from ..problem import Problem
from ..reconstruction import Reconstruction
from .iterate import Iterate
from .lasso import iterate_lasso
from .tv import default_lam, iterate_tv

_LASSO = 1e-2


def solve_lasso(
    problem: Problem,
    prior=None,
    *,
    lam: float | Tensor | None = None,
    basis: str = "dct",
    steps: int | None = None,
) -> Reconstruction:
    """`lasso` with ``steps`` (500) at most; no prior is used.

    ``lam`` is 0.01 by default, times ||A||^2 if that norm is far from 1.
    """
    trace: list[dict] = []
    lam = _LASSO if lam is None else lam / problem.scale**2
    steps = steps or 500
    watch = _watch(problem, trace, steps)
    found = iterate_lasso(problem.y, problem.physics, lam, basis, steps, callback=watch)
    return _reconstruction(problem, found, "lasso", trace)


def solve_tv(
    problem: Problem,
    prior=None,
    *,
    lam: float | Tensor | None = None,
    steps: int | None = None,
) -> Reconstruction:
    """`tv` with ``steps`` (400) at most, by default with the weight that suits the noise; no prior
    is used."""
    trace: list[dict] = []
    if lam is None:
        lam = default_lam(problem.noise, problem.physics)
    else:
        lam = lam / problem.scale**2
    steps = steps or 400
    watch = _watch(problem, trace, steps)
    found = iterate_tv(problem.y, problem.physics, lam, steps, callback=watch)
    return _reconstruction(problem, found, "tv", trace)


def _watch(problem: Problem, trace: list[dict], total: int):
    def watch(k: int, x: Tensor) -> None:
        trace.append({"iteration": k, "residual": problem.residual(x).tolist()})
        problem.progress(k, total, f"{total} iterations at most")

    return watch


def _reconstruction(problem, found: Iterate, method: str, trace: list[dict]) -> Reconstruction:
    finite = found.x.isfinite().flatten(1).all(1).cpu()
    status = [
        "failed: NaN or Inf" if not ok else "converged" if still else "max_iter"
        for ok, still in zip(finite.tolist(), found.settled.tolist(), strict=True)
    ]
    return Reconstruction(
        x=found.x,
        z=None,
        log_prob=None,
        residual=problem.residual(found.x),
        converged=found.settled & finite,
        status=status,
        evaluations=found.iterations,
        method=method,
        trace=trace,
    )
