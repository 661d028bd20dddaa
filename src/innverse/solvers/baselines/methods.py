"""The Lasso and total variation as methods of `innverse.solve`."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ...catalog import Method
from ...options import choice, real, whole
from ...physics import Tomography
from ..problem import Problem
from ..reconstruction import Reconstruction
from .iterate import Iterate
from .lasso import iterate_lasso
from .tv import default_lam, iterate_tv

_SMOOTH = 0.05  # how far pixels stray from a constant, in a first guess that costs little


class Lasso(Method):
    """Sparsity in cosines or wavelets: min over x of ||A x - y||^2 + lam ||W x||_1."""

    needs = "nothing"
    uses_prior = False

    lam: float | Tensor | None = real(
        None, "Weight of the penalty.", low=0, per_item=True, auto="what suits operator and noise"
    )
    basis: str = choice(
        "dct", "Where the image is sparse: cosines, or periodic wavelets.", ("dct", "haar", "db2")
    )
    steps: int = whole(500, "Iterations.")

    def solve(self, problem: Problem, prior: object) -> Reconstruction:
        lam = lasso_weight(problem) if self.lam is None else self.lam / problem.scale**2
        given = problem.y, problem.physics, lam, self.basis, self.steps
        return _solved(problem, "lasso", self.steps, functools.partial(iterate_lasso, *given))


@torch.no_grad()
def lasso_weight(problem: Problem) -> Tensor:
    """The weight of the Lasso for each item (B,).

    Fitted on held-out faces (``reproduce/tuned.json``): within 0.4 dB of the best of its grid for
    compressed sensing with m/n from 0.008 to 0.41, inpainting, and denoising from 0.01 to 0.2. With
    s the mean of the diagonal of A^T A, noise asks for its own level times sqrt(s). A spectrum far
    above s (few measurements) slows the iteration down, so that too small a weight never arrives.
    """
    x = torch.randn((1, *problem.shape), generator=torch.Generator().manual_seed(0))
    x = x.to(problem.y.real).expand(problem.batch, -1, -1, -1)
    diagonal = float(problem.physics.A(x).abs().square().sum() / x.square().sum())
    spread = problem.physics.norm_squared(x.shape) / max(diagonal, 1e-12)
    least = 1e-2 * diagonal * min(max(1.0, spread / 5) ** 2, 300.0)
    noise = problem.noise_level()
    weight = noise * diagonal**0.5 * (10 * noise).clamp_min(1)
    return weight.clamp_min(least).expand(problem.batch)


class TotalVariation(Method):
    """Total variation: min over x of ||A x - y||^2 + lam TV(x)."""

    needs = "nothing"
    uses_prior = False

    lam: float | Tensor | None = real(
        None, "Weight of the penalty.", low=0, per_item=True, auto="what suits operator and noise"
    )
    steps: int = whole(400, "Iterations.")

    def solve(self, problem: Problem, prior: object) -> Reconstruction:
        usual = default_lam(problem.noise, problem.physics)
        lam = usual if self.lam is None else self.lam / problem.scale**2
        given = problem.y, problem.physics, lam, self.steps
        # from A^T y the low frequencies of line integrals would take thousands of iterations
        rays = isinstance(problem.given[1], Tomography)
        x0 = problem.first_guess(_SMOOTH) if rays else None
        return _solved(problem, "tv", self.steps, functools.partial(iterate_tv, *given, x0=x0))


def _solved(
    problem: Problem, method: str, steps: int, iterate: Callable[..., Iterate]
) -> Reconstruction:
    """What ``iterate(callback=)`` finds in at most ``steps`` iterations."""
    trace: list[dict] = []

    def watch(k: int, x: Tensor) -> None:
        trace.append({"iteration": k, "residual": problem.residual(x).tolist()})
        problem.progress(k, steps, f"{steps} iterations at most")

    found = iterate(callback=watch)
    finite = found.x.isfinite().flatten(1).all(1).cpu()
    status = [
        "failed: NaN or Inf" if not ok else "converged" if still else "max_iter"
        for ok, still in zip(finite.tolist(), found.settled.tolist(), strict=True)
    ]
    kept = {"evaluations": found.iterations, "trace": trace}
    converged = found.settled & finite
    return Reconstruction.of(problem, found.x, method, converged=converged, status=status, **kept)
