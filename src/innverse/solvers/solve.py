"""One door to all solvers: ``solve(y, physics, prior, method=...)``."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..constant import constant_parameters
from ..errors import UsageError
from .baselines import solve_adaptive, solve_deep_decoder, solve_lasso, solve_tv
from .constrained import solve_constrained
from .latent import solve_latent
from .map import solve_map
from .pnp import solve_pnp
from .posterior import solve_posterior
from .posterior_mean import knows_posterior_mean, solve_denoising
from .problem import Problem, Progress
from .reconstruction import Reconstruction

__all__ = ["METHODS", "Reconstruction", "options", "solve"]


def _plug_and_play(
    problem: Problem,
    prior,
    *,
    sigma: float | None = None,
    steps: int | None = None,
    shifts: int = 4,
    init: Tensor | None = None,
    tile: int | str | None = "auto",
) -> Reconstruction:
    """`solve_pnp`; plain denoising is the posterior mean in one step."""
    if sigma is None and getattr(prior, "noise", None) and knows_posterior_mean(problem, prior):
        return solve_denoising(problem, prior, shifts=shifts, tile=tile)
    return solve_pnp(problem, prior, sigma=sigma, steps=steps, shifts=shifts, init=init, tile=tile)


METHODS: dict[str, Callable[..., Reconstruction]] = {
    "pnp": _plug_and_play,
    "latent": solve_latent,
    "map": solve_map,
    "posterior": solve_posterior,
    "constrained": solve_constrained,
    "adaptive": solve_adaptive,
    "deep_decoder": solve_deep_decoder,
    "lasso": solve_lasso,
    "tv": solve_tv,
}
WITHOUT_PRIOR = ("deep_decoder", "lasso", "tv")


@torch.inference_mode(False)  # searches need gradients, also where a caller needs none
def solve(
    y: Tensor,
    physics,
    prior=None,
    method: str = "pnp",
    *,
    noise: float | Tensor | None = None,
    image_shape: tuple[int, int, int] | None = None,
    progress: Progress | None = None,
    **given,
) -> Reconstruction:
    """Reconstruct images x from measurements y = A x + noise, under a generative prior or none.

    Items of the batch are independent: each has its own line search, its own stop, and its own
    rejection of NaN.

    Args:
        y: measurements (B, ...), whatever shape the operator gives: a tensor or array of any
            floating-point type, real or complex; 8-bit pictures are divided by 255. A list of
            operators takes a list of measurements.
        physics: the operator: one of `innverse.physics`, a deepinv physics, a scipy
            LinearOperator, a matrix, a pair of callables, a differentiable function, a list of
            operators; see `innverse.physics.as_physics`.
        prior: a `Flow` (for "latent" and "adaptive" any generator with ``latent_shape`` and
            ``decode``), a name that `innverse.load` knows, or a folder. The last three methods
            use none.
        method: ``"pnp"`` the flow's denoiser from coarse to fine (any image size, fast; for plain
            denoising it is the posterior mean in one step);
            ``"latent"`` min_z ||A G(z) - y||^2 + gamma ||z|| from z = 0 (Asim et al. 2020);
            ``"map"`` max_x beta log p(x) - ||A x - y||^2 / (2 noise^2);
            ``"constrained"`` max_x log p(x) with A x = y exactly, for measurements without noise;
            ``"adaptive"`` "latent", then the generator's own weights too (Hussein et al. 2020);
            ``"deep_decoder"`` an untrained network (Heckel & Hand 2019);
            ``"lasso"`` sparsity in a basis; ``"tv"`` total variation.
        noise: standard deviation of the measurement noise: one number, one per item (B,), a map
            that broadcasts against y, or a noise model; by default what the physics says.
        image_shape: (C, H, W), for operators that do not know it (scipy).
        progress: called as progress(done, total, note).
        given: options of the method, which its function describes: `solve_pnp` (sigma, steps,
            shifts, init, tile), `solve_latent` (sigma, gamma, penalty, steps, init, start, radius,
            restarts, optimizer, lr, seed), `solve_map` (sigma, beta, logdet, steps, start, init),
            `solve_constrained` (sigma, steps, init), `solve_adaptive` (tune_steps, tune_lr,
            latent_lr and those of latent), `solve_deep_decoder` (channels, doublings, steps, lr,
            seed), `solve_lasso` (lam, basis, steps), `solve_tv` (lam, steps). An option that is
            None is left at its default.

    Raises:
        InputError: NaN in y, a wrong adjoint. ShapeError: shapes that do not fit.
        UsageError: an unknown method, option or value.
    """
    known = options(method)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UsageError(
            f"method {method!r} has no option {unknown[0]!r}: it has {', '.join(known)}"
        )
    given = {name: value for name, value in given.items() if value is not None}
    if method in WITHOUT_PRIOR:
        prior = None
    elif prior is None:
        raise UsageError(f"method {method!r} needs a prior: {', '.join(WITHOUT_PRIOR)} do not")
    elif isinstance(prior, str):
        from ..zoo import load

        prior = load(prior)
    begun = time.perf_counter()
    problem = Problem.build(y, physics, prior, noise, image_shape, progress)
    # "adaptive" trains the generator
    with contextlib.nullcontext() if method == "adaptive" else constant_parameters():
        result = METHODS[method](problem, prior, **given)
    result.seconds = time.perf_counter() - begun
    return result


def options(method: str) -> tuple[str, ...]:
    """The names of the options of a method.

    Raises:
        UsageError: an unknown method.
    """
    if method not in METHODS:
        raise UsageError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    parameters = inspect.signature(METHODS[method]).parameters.values()
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):  # "adaptive" begins with a latent search
        names += [name for name in options("latent") if name not in names]
    return tuple(names)
