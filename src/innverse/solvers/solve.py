"""One door to all solvers: ``solve(y, physics, prior, method=...)``."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from ..constant import constant_parameters
from ..errors import ShapeError, UsageError, warn
from ..physics import Denoising
from . import pnp
from .arguments import check_arguments
from .baselines import solve_adaptive, solve_deep_decoder, solve_lasso, solve_tv
from .choose import Choice, choose, doubts
from .constrained import solve_constrained
from .coverage import as_given
from .judge import SLACK, judge
from .latent import latent_shape, solve_latent
from .map import solve_map
from .noise_level import contradictions, estimate_noise, has_one_level
from .posterior import solve_posterior
from .posterior_mean import knows_posterior_mean, solve_denoising
from .problem import Problem, Progress
from .reconstruction import Reconstruction, SolveWarning
from .scale import back, checked_range, misfits_scale, onto_unit

__all__ = ["METHODS", "Reconstruction", "options", "solve"]


def _plug_and_play(
    problem: Problem,
    prior,
    *,
    sigma: float | None = None,
    steps: int = pnp.STEPS,
    strength: float = pnp.STRENGTH,
    churn: float = pnp.CHURN,
    shifts: int = 4,
    init: Tensor | None = None,
    tile: int | str | None = "auto",
) -> Reconstruction:
    """`solve_pnp`; plain denoising is the posterior mean in one step."""
    usual = sigma is None and init is None and (strength, churn) == (pnp.STRENGTH, pnp.CHURN)
    if usual and getattr(prior, "noise", None) and knows_posterior_mean(problem, prior):
        return solve_denoising(problem, prior, shifts=shifts, tile=tile)
    return pnp.solve_pnp(
        problem, prior, sigma=sigma, steps=steps, strength=strength, churn=churn, shifts=shifts,
        init=init, tile=tile,
    )  # fmt: skip


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
AUTO = "auto"
WITHOUT_PRIOR = ("deep_decoder", "lasso", "tv")


@torch.inference_mode(False)  # searches need gradients, also where a caller needs none
def solve(
    y: Tensor,
    physics,
    prior=None,
    method: str = AUTO,
    *,
    noise: float | Tensor | str | None = None,
    x_range: tuple[float, float] | None = None,
    image_shape: tuple[int, int, int] | None = None,
    progress: Progress | None = None,
    **given,
) -> Reconstruction:
    """Reconstruct images x from measurements y = A x + noise, under a generative prior or none.

    Items of the batch are independent: each has its own line search, its own stop, and its own
    rejection of NaN. None is called converged unless all it returns is finite and, where the noise
    is known, its residual is no more than the noise explains.

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
        method: ``"auto"`` looks at operator, gaps, size, noise and prior (`choose`); the result
            says what it took, and why;
            ``"pnp"`` the flow's denoiser from coarse to fine (any image size, fast; for plain
            denoising it is the posterior mean in one step);
            ``"latent"`` min_z ||A G(z) - y||^2 + gamma ||z|| from z = 0 (Asim et al. 2020);
            ``"map"`` max_x beta log p(x) - ||A x - y||^2 / (2 noise^2);
            ``"posterior"`` exact draws of p(x | y), with their mean and spread, by Hamiltonian Monte
            Carlo;
            ``"constrained"`` max_x log p(x) with A x = y exactly, for measurements without noise;
            ``"adaptive"`` "latent", then the generator's own weights too (Hussein et al. 2020);
            ``"deep_decoder"`` an untrained network (Heckel & Hand 2019);
            ``"lasso"`` sparsity in a basis; ``"tv"`` total variation.
        noise: standard deviation of the measurement noise on the scale of y: one number, one per
            item (B,), a map that broadcasts against y, or a noise model; by default what the
            physics says. ``"auto"`` estimates it from y, see `estimate_noise`.
        x_range: the values of x that stand for black and white, where they are not 0 and 1: (0, 255)
            or (-1000, 1000). The results are on this scale.
        image_shape: (C, H, W), for operators that do not know it (scipy).
        progress: called as progress(done, total, note).
        given: options of the method, which its function describes: `solve_pnp` (sigma, steps,
            strength, churn, shifts, init, tile), `solve_latent` (sigma, gamma, penalty, steps, init,
            start, radius, restarts, optimizer, lr, seed), `solve_map` (sigma, beta, logdet, steps,
            start, init), `solve_constrained` (sigma, steps, init), `solve_adaptive` (tune_steps,
            tune_lr, latent_lr and those of latent), `solve_posterior` (sigma, draws, chains, warmup,
            steps, init, seed), `solve_deep_decoder` (channels, doublings,
            steps, lr, seed), `solve_lasso` (lam, basis, steps), `solve_tv` (lam, steps). An option
            that is None is left at its default. "auto" takes a method that knows all of them.

    Warns:
        SolveWarning: what ``notes`` of the result holds besides an estimated noise level.

    Raises:
        InputError: NaN in y, a wrong adjoint, data on quite another scale than the prior's images.
        ShapeError: shapes that do not fit.
        UsageError: an unknown method, option or value; a noise level that cannot be estimated.
    """
    known = options(method)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UsageError(
            f"method {method!r} has no option {unknown[0]!r}: it has {', '.join(known)}"
        )
    given = check_arguments({name: value for name, value in given.items() if value is not None})
    estimate = _is_auto(noise)
    x_range = checked_range(x_range)
    if method in WITHOUT_PRIOR:
        prior = None
    elif prior is None and method != AUTO:
        raise UsageError(f"method {method!r} needs a prior: {', '.join(WITHOUT_PRIOR)} do not")
    elif isinstance(prior, str):
        from ..zoo import load

        prior = load(prior)
    begun = time.perf_counter()
    problem = Problem.build(y, physics, prior, None if estimate else noise, image_shape, progress)
    original = problem
    if x_range is not None:
        problem = onto_unit(problem, x_range)
        if isinstance(given.get("init"), Tensor) and method not in ("latent", "adaptive"):
            given["init"] = (given["init"] - x_range[0]) / (x_range[1] - x_range[0])
    notes: list[list[str]] = [[] for _ in range(problem.batch)]
    # "adaptive" trains the generator
    with contextlib.nullcontext() if method == "adaptive" else constant_parameters():
        told = _noise(problem, prior, notes, estimate, x_range or (0.0, 1.0))
        choice = Choice(method, "named by the caller")
        if method == AUTO:
            choice = choose(problem, prior, given, options)
        if choice.method == "pnp" and problem.noise is None:
            if isinstance(as_given(problem)[1], Denoising):
                words = "no noise level is known, so little is removed: give noise=, or 'auto'"
                notes = [[*row, words] for row in notes]
        for i, words in enumerate(misfits_scale(problem, prior, choice.method)):
            if words is not None:
                notes[i].append(words)
        for row in notes:
            row += doubts(problem, prior, choice.method)
        _warn(notes, told)
        if choice.method in WITHOUT_PRIOR:
            prior = None
        _check_init(problem, prior, choice.method, given.get("init"))
        result = METHODS[choice.method](problem, prior, **(choice.options | given))
    judge(problem, result, slack=SLACK * max(1.0, given.get("beta", 1.0)) ** 0.5)
    result.reason, result.notes = choice.reason, notes
    if has_one_level(problem):
        level = torch.as_tensor(problem.noise).to(problem.y.real).expand(problem.batch)
        result.noise = level * getattr(problem, "scale", 1.0)
    if x_range is not None:
        back(result, x_range, original)
    result.seconds = time.perf_counter() - begun
    return result


def _check_init(problem: Problem, prior, method: str, init: Tensor | None) -> None:
    if init is None:
        return
    latent = method in ("latent", "adaptive")
    shape = (problem.batch, *(latent_shape(problem, prior) if latent else problem.shape))
    if tuple(init.shape) != shape:
        what = "latents" if latent else "images"
        raise ShapeError(f"init has shape {tuple(init.shape)}: expected {what} {shape}")


def _is_auto(noise) -> bool:
    if isinstance(noise, str) and noise != AUTO:
        raise UsageError(f"noise={noise!r}: give a standard deviation, or 'auto' to estimate it")
    return isinstance(noise, str)


def _noise(problem: Problem, prior, notes, estimate: bool, x_range) -> set[str]:
    """Estimate the noise level, or compare a given one with the data; returns what is no doubt."""
    span = x_range[1] - x_range[0]
    told: set[str] = set()
    if estimate:
        found, how = estimate_noise(problem, prior)
        problem.noise = found / getattr(problem, "scale", 1.0)
        for row, level in zip(notes, found.tolist(), strict=True):
            row.append(f"the noise was estimated as {span * level:.3g}, by {how}")
            told.add(row[-1])
    elif has_one_level(problem):
        for row, words in zip(notes, contradictions(problem, prior, span), strict=True):
            row += [] if words is None else [words]
    return told


def _warn(notes: list[list[str]], told: set[str]) -> None:
    for text in dict.fromkeys(text for row in notes for text in row if text not in told):
        warn(text, SolveWarning)


def method_for(y: Tensor, physics, prior=None, *, noise=None, asked: Collection[str] = ()) -> str:
    """The method that ``"auto"`` takes, without solving; ``asked`` are options to be given."""
    level = None if isinstance(noise, str) else noise
    problem = Problem.build(y, physics, prior, level)
    return choose(problem, prior, asked, options).method


def options(method: str) -> tuple[str, ...]:
    """The names of the options of a method.

    Those of "auto" are those of all methods.

    Raises:
        UsageError: an unknown method.
    """
    if method == AUTO:
        return tuple(dict.fromkeys(name for each in METHODS for name in options(each)))
    if not isinstance(method, str) or method not in METHODS:
        raise UsageError(f"method={method!r}: choose one of {', '.join(METHODS)}, or {AUTO}")
    parameters = inspect.signature(METHODS[method]).parameters.values()
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):  # "adaptive" begins with a latent search
        names += [name for name in options("latent") if name not in names]
    return tuple(names)
