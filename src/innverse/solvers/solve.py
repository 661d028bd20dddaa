"""One door to all solvers: ``solve(y, physics, prior, method=...)``."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ..errors import UsageError
from .constrained import solve_constrained
from .latent import solve_latent
from .map import solve_map
from .pnp import solve_pnp
from .posterior_mean import knows_posterior_mean, solve_denoising
from .problem import Problem, Progress
from .reconstruction import Reconstruction

__all__ = ["METHODS", "Reconstruction", "solve"]

METHODS = ("pnp", "latent", "map", "constrained")
_PRIOR_SIGMA = 0.02  # where a noise-conditional density is sharp, yet smooth enough to climb


def solve(
    y: Tensor,
    physics,
    prior,
    method: str = "pnp",
    *,
    noise: float | Tensor | None = None,
    sigma: float | None = None,
    gamma: float | str = 0.0,
    penalty: str = "norm",
    steps: int | None = None,
    shifts: int = 4,
    init: Tensor | None = None,
    start: str = "zero",
    optimizer: str = "lbfgs",
    seed: int = 0,
    image_shape: tuple[int, int, int] | None = None,
    tile: int | str | None = "auto",
    progress: Progress | None = None,
) -> Reconstruction:
    """Reconstruct images x from measurements y = A x + noise under a generative prior.

    Items of the batch are independent: each has its own line search, its own stop, and its own
    rejection of NaN.

    Args:
        y: measurements (B, ...), whatever shape the operator gives.
        physics: the operator: one of `innverse.physics`, a deepinv physics, a scipy
            LinearOperator, a matrix, a pair of callables; see `innverse.physics.as_physics`.
        prior: a `Flow` (for "latent" any generator with ``decode``), a name that
            `innverse.load` knows, or a folder.
        method: ``"pnp"`` the flow's denoiser from coarse to fine (any image size, fast; for plain
            denoising it is the posterior mean in one step);
            ``"latent"`` min_z ||A G(z) - y||^2 + gamma ||z|| from z = 0 (Asim et al. 2020);
            ``"map"`` max_x log p(x) - ||A x - y||^2 / (2 noise^2);
            ``"constrained"`` max_x log p(x) with A x = y exactly, for measurements without noise.
        noise: standard deviation of the measurement noise; by default what the physics says.
        sigma: noise level at which a noise-conditional prior is used: the last one for "pnp"
            (default: that of the measurement), the last for "map", the only one for the others
            (default 0.02).
        gamma, penalty: weight of ``"norm"`` ||z|| or ``"square"`` ||z||^2 in "latent"; with
            gamma ``"discrepancy"`` it is chosen, item by item, so that the misfit is that of the
            noise.
        steps: iterations (default: 45 for pnp, 150 for latent, 200 for the others).
        shifts: views that the last denoising of "pnp" averages, 1 to 16.
        init: latents to start from in "latent", images in the other methods.
        start: where "latent" begins without ``init``: ``"zero"``, ``"random"``, ``"sphere"``,
            ``"pseudo_inverse"`` or ``"null_space"``, see `latent_start`; ``seed`` is that of the
            random ones.
        optimizer: of "latent", ``"lbfgs"`` or ``"adam"`` (500 steps).
        image_shape: (C, H, W), for operators that do not know it (scipy).
        tile: side of the tiles for large images in "pnp"; None never tiles.
        progress: called as progress(done, total, note).

    Raises:
        InputError: NaN in y, a wrong adjoint. ShapeError: shapes that do not fit.
        UsageError: an unknown method or option value.
    """
    if method not in METHODS:
        raise UsageError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    if isinstance(prior, str):
        from ..zoo import load

        prior = load(prior)
    begun = time.perf_counter()
    problem = Problem.build(y, physics, prior, noise, image_shape, progress)
    if method == "pnp":
        if sigma is None and getattr(prior, "noise", None) and knows_posterior_mean(problem, prior):
            result = solve_denoising(problem, prior, shifts=shifts, tile=tile)
        else:
            result = solve_pnp(
                problem, prior, sigma=sigma, steps=steps, shifts=shifts, init=init, tile=tile
            )
    elif method == "latent":
        prior = _at_level(prior, sigma)
        result = solve_latent(
            problem,
            prior,
            gamma=gamma,
            penalty=penalty,
            steps=steps,
            init=init,
            start=start,
            optimizer=optimizer,
            seed=seed,
        )
    elif method == "constrained":
        result = solve_constrained(problem, _at_level(prior, sigma), steps=steps, init=init)
    else:
        result = solve_map(problem, prior, sigma=sigma or _PRIOR_SIGMA, steps=steps, init=init)
    result.seconds = time.perf_counter() - begun
    return result


def _at_level(prior, sigma: float | None):
    """A noise-conditional flow taken at one level; other priors as they are."""
    span = getattr(prior, "noise_range", None)
    if span is None or not hasattr(prior, "at"):
        return prior
    level = min(max(_PRIOR_SIGMA if sigma is None else sigma, span[0]), span[1])
    return prior.at(torch.tensor([level]))
