"""One door to all solvers: ``solve(y, physics, prior, method=...)``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from ..accelerate.constant import constant_parameters
from ..catalog import METHODS
from ..errors import ShapeError, UsageError, warn
from ..options import Option
from ..physics import Denoising, NoNoise, PoissonNoise
from ..physics.foreign_noise import as_noise
from ..physics.noise import NoiseModel
from ..progress import Report
from ..protocols import Density, Generator
from .choose import Choice, choose, doubts
from .coverage import as_given
from .judge import SLACK, judge
from .latent import latent_shape
from .noise_level import contradictions, estimate_noise, has_one_level, photon_gain
from .problem import NOISELESS, Problem
from .reconstruction import Measured, Reconstruction, SolveWarning
from .scale import back, checked_range, misfits_scale, onto_unit, whole_numbers

__all__ = ["METHODS", "Reconstruction", "options", "solve"]


AUTO = "auto"
_EXACT_DATA = f"draws need noise: a level of 0 was taken as {NOISELESS:g} of the operator's norm"
COUNTS = "counts"  # noise of photons, whose gain is estimated


@torch.inference_mode(False)  # searches need gradients, also where a caller needs none
def solve(
    y: Tensor,
    physics,
    prior: Generator | Density | str | None = None,
    method: str = AUTO,
    *,
    noise: float | Tensor | NoiseModel | str | None = None,
    x_range: tuple[float, float] | None = None,
    image_shape: tuple[int, int, int] | None = None,
    progress: Report | None = None,
    **given,
) -> Reconstruction:
    """Reconstruct images x from measurements y = A x + noise, under a generative prior or none.

    Items of the batch are independent: each has its own line search, its own stop, and its own
    rejection of NaN. None is called converged unless all it returns is finite and, where the noise
    is known, its residual is no more than the noise explains.

    Args:
        y: measurements (B, ...), whatever shape the operator gives: a tensor or array of any
            floating-point type, real or complex; pictures of 8 and 16 bits (unsigned) are divided
            by 255 and 65535. A list of operators takes a list of measurements.
        physics: the operator: one of `innverse.physics`, a deepinv physics, a scipy
            LinearOperator, a matrix, a pair of callables, a differentiable function, a list of
            operators; see `innverse.physics.as_physics`.
        prior: a `Flow` (for "latent" and "adaptive" any generator with ``latent_shape`` and
            ``decode``), a name that `innverse.load` knows, or a folder. The last three methods
            use none.
        method: ``"auto"`` looks at operator, gaps, size, noise and prior (`choose`); the result
            says what it took, and why;
            or a name of `innverse.catalog.METHODS`: "pnp", "latent", "map", "posterior",
            "constrained", "adaptive", and without a prior "deep_decoder", "lasso" and "tv". Each is a
            class that says what it does and what options it has; docs/solvers.md has them all.
        noise: standard deviation of the measurement noise on the scale of y: one number, one per
            item (B,), a map that broadcasts against y, or a noise model; by default what the
            physics says. ``"auto"`` estimates it from y, see `estimate_noise`; ``"counts"`` takes
            y for counted photons, whose number per unit it estimates, see `photon_gain`.
        x_range: the values of x that stand for black and white, where they are not 0 and 1: (0, 255)
            or (-1000, 1000). The results are on this scale. Operators of signed images, as of complex
            ones, have theirs (`LinearPhysics.image_range`).
        image_shape: (C, H, W), for operators that do not know it (scipy).
        progress: called as progress(done, total, note).
        given: options of the method, see `options`. One that is None is left at its default.
            "auto" takes a method that knows all of them.

    Warns:
        SolveWarning: what ``notes`` of the result holds besides an estimated noise level.

    Raises:
        InputError: NaN in y, a wrong adjoint, data on quite another scale than the prior's images.
        ShapeError: shapes that do not fit.
        UsageError: an unknown method, option or value; a noise level that cannot be estimated.

    Example:
        >>> physics = innverse.physics.Inpainting((torch.rand(8, 8) > 0.2).float(), noise=0.01)
        >>> y = physics(torch.full((2, 1, 8, 8), 0.5))
        >>> solve(y, physics, method="tv", lam=0.01).x.shape
        torch.Size([2, 1, 8, 8])
    """
    given = checked(method, given)
    estimate = _is_auto(noise)
    x_range = checked_range(x_range)
    if method != AUTO and not METHODS[method].uses_prior:
        prior = None
    elif prior is None and method != AUTO:
        without = ", ".join(name for name in METHODS if not METHODS[name].uses_prior)
        raise UsageError(f"method {method!r} needs a prior: {without} do not")
    elif isinstance(prior, str):
        from ..zoo import load

        prior = load(prior)
    started = time.perf_counter()
    gain = None
    if x_range is not None:
        y = whole_numbers(y)
    if isinstance(noise, str) and noise == COUNTS:
        y = whole_numbers(y)
        gain = photon_gain(Problem.build(y, physics, prior, NoNoise(), image_shape))
        noise = PoissonNoise(gain)
    problem = Problem.build(y, physics, prior, None if estimate else noise, image_shape, progress)
    if not problem.physics.linear and method != AUTO and not METHODS[method].any_operator:
        others = ", ".join(name for name in METHODS if METHODS[name].any_operator)
        raise UsageError(f"method {method!r} needs a linear operator: {others} take any")
    original = problem
    if x_range is None and prior is not None:
        x_range = as_given(problem)[1].image_range
    if x_range is not None:
        problem = onto_unit(problem, x_range)
        if "init" in given and not METHODS[method].latent_init:
            given["init"] = (given["init"] - x_range[0]) / (x_range[1] - x_range[0])
    seen, operator = original.given
    whole = isinstance(y, Tensor) and y.is_floating_point() and y.shape == seen.shape
    suspicions = operator.doubts(y.to(seen) if whole else seen)  # also of what a mask leaves out
    notes: list[list[str]] = [[] for _ in range(problem.batch)]
    # "adaptive" trains the generator
    with contextlib.nullcontext() if method == "adaptive" else constant_parameters():
        told = _noise(problem, prior, notes, estimate, x_range or (0.0, 1.0))
        if gain is not None:
            words = f"photons were counted: {gain:.3g} each, from variance over mean"
            notes = [[words, *row] for row in notes]
            told.add(words)
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
            row += suspicions
        kind = METHODS[choice.method]
        if "draws" in kind.declared and problem.noise is not None:
            problem, exact = problem.without_exact()
            for row, level, one in zip(notes, _levels(problem), exact.tolist(), strict=True):
                row += [] if level > 0 and not one else [_EXACT_DATA]
            from .posterior.likelihood import taken_as_gaussian

            if law := taken_as_gaussian(problem.model):
                for row in notes:
                    row.append(f"{law} is taken as Gaussian of its deviation")
        _warn(notes, told)
        if kind.uses_prior and choice.method != "amortised" and _answers(prior):
            raise UsageError(
                f"method {choice.method!r} needs a prior, and this model answers measurements itself: "
                "take method 'amortised'"
            )
        if not kind.uses_prior:
            prior = None
        run = kind(**(choice.options | given))
        check_init(problem, prior, kind.latent_init, given.get("init"))
        result = run.solve(problem, prior)
    judge(problem, result, slack=SLACK * max(1.0, given.get("beta", 1.0)) ** 0.5)
    own = result.notes or [[] for _ in notes]
    asked = getattr(run, "draws", None)
    if asked and result.samples is not None and len(result.samples) > asked:
        words = f"draws={asked} was rounded up to {len(result.samples)}: chains keep equally many"
        own = [[*row, words] for row in own]
    result.notes = [before + after for before, after in zip(notes, own, strict=True)]
    words = result.diagnostics.get("approximate")
    result.reason = choice.reason if words is None else f"{choice.reason}; approximate: {words}"
    result.options = run.in_force()
    if has_one_level(problem):
        level = torch.as_tensor(problem.noise).to(problem.y.real).expand(problem.batch)
        result.noise = level * getattr(problem, "scale", 1.0)
    if x_range is not None:
        back(result, x_range, original)
    if original.given is not None and original.model is not None:
        model = as_noise(result.noise) if estimate else original.model
        result.measured = Measured(*original.given, model)
    result.seconds = time.perf_counter() - started
    return result


def _answers(prior) -> bool:
    """Whether a model was trained to answer measurements, and is no prior."""
    return getattr(prior, "measurement", None) is not None


def check_init(problem: Problem, prior, latent: bool, init: Tensor | None) -> None:
    if init is None:
        return
    shape = (problem.batch, *(latent_shape(problem, prior) if latent else problem.shape))
    if tuple(init.shape) != shape:
        what = "latents" if latent else "images"
        raise ShapeError(f"init has shape {tuple(init.shape)}: expected {what} {shape}")


def _levels(problem: Problem) -> list[float]:
    return torch.as_tensor(problem.noise).expand(problem.batch).tolist()


def _is_auto(noise) -> bool:
    if isinstance(noise, str) and noise not in (AUTO, COUNTS):
        raise UsageError(
            f"noise={noise!r}: give a standard deviation, 'auto' to estimate it, or 'counts'"
        )
    return isinstance(noise, str) and noise == AUTO


def _noise(problem: Problem, prior: object, notes, estimate: bool, x_range) -> set[str]:
    """Estimate the noise level, or compare a given one with the data; returns what is no doubt."""
    span = x_range[1] - x_range[0]
    told: set[str] = set()
    if estimate:
        found, how = estimate_noise(problem, prior)
        problem.noise = found / getattr(problem, "scale", 1.0)
        problem.model = as_noise(found)
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


def method_for(
    y: Tensor, physics, prior: object = None, *, noise=None, asked: Collection[str] = ()
) -> str:
    """The method that ``"auto"`` takes, without solving; ``asked`` are options to be given.

    Example:
        >>> physics = innverse.physics.Denoising(noise=0.1)
        >>> method_for(torch.rand(1, 1, 8, 8), physics)
        'tv'
    """
    level = None if isinstance(noise, str) else noise
    problem = Problem.build(y, physics, prior, level)
    return choose(problem, prior, asked, options).method


def options(method: str) -> dict[str, Any]:
    """The options of a method with their defaults; those of "auto" are those of all methods.

    Raises:
        UsageError: an unknown method.

    Example:
        >>> "lam" in options("tv")
        True
    """
    return {name: option.default for name, option in _declared(method).items()}


def checked(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as the method wants them.

    Raises:
        OptionError: an unknown option, or a value that makes no sense.
    """
    known = _declared(method)
    if unknown := [name for name in given if name not in known]:
        words = f"method {method!r} has no option {unknown[0]!r}: it has {', '.join(known)}"
        raise UsageError(words)
    return {name: known[name].check(value) for name, value in given.items() if value is not None}


def _declared(method: str) -> dict[str, Option]:
    if method == AUTO:
        every = [METHODS[name].declared for name in METHODS]
        return {name: option for each in every for name, option in each.items()}
    if method not in METHODS:
        raise UsageError(f"method={method!r}: choose one of {', '.join(METHODS)}, or {AUTO}")
    return METHODS[method].declared
