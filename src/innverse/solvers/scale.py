"""Images on another scale than the prior's [0, 1]: x = low + (high - low) u.

With y = A x + n the unknown u is measured by (y - A(low 1)) / (high - low) = A u + n / (high - low).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InputError, UsageError
from ..physics import Blur, Denoising, Downsampling, Inpainting
from ..physics.rescaled import OnUnit, rescaled
from ..protocols import Generator, noise_range
from ..shapes import wide
from .coverage import as_given
from .levels import priors_at
from .problem import Problem
from .reconstruction import Reconstruction

_FAR = 4.0  # images whose mean level lies beyond -4..4 are on no scale of a prior of [0, 1]
_NEAR = 0.25


def checked_range(given) -> tuple[float, float] | None:
    """``x_range`` as two numbers.

    Raises:
        UsageError: something else than two finite numbers, the first below the second.
    """
    if given is None:
        return None
    try:
        low, high = (float(v) for v in given)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(
            f"x_range={given!r}: give the values that stand for black and white, such as (0, 255)"
        )
    return low, high


def whole_numbers(y):
    """Whole numbers as they are, where nothing is to be guessed of their scale."""
    kind = getattr(y, "dtype", None)
    if isinstance(y, Tensor):
        return y if y.is_floating_point() or y.is_complex() else y.float()
    return y.astype("float32") if getattr(kind, "kind", "") in ("i", "u") else y


@torch.no_grad()
def onto_unit(problem: Problem, x_range: tuple[float, float]) -> Problem:
    """The same problem for u in [0, 1]."""
    low, high = x_range
    span = high - low
    (y, physics), model = problem.given, problem.model
    if not physics.linear:
        return problem.measured_by(y, OnUnit(physics, low, span), model)
    offset = physics.A(y.real.new_full((problem.batch, *problem.shape), low))
    if model is not None:
        model = rescaled(model, offset, span)
    return replace(problem, unit=span).measured_by((y - offset) / span, physics, model)


@torch.no_grad()
def back(result: Reconstruction, x_range: tuple[float, float], problem: Problem) -> None:
    """Map a result to the user's scale, in place; ``problem`` is the one as it was given."""
    low, high = x_range
    span = high - low
    result.x = low + span * result.x
    if result.samples is not None:
        result.samples = low + span * result.samples
    if result.std is not None:
        result.std = span * result.std
    if result.noise is not None and problem.physics.linear:
        result.noise = span * result.noise
    if result.diagnostics.get("sigma") is not None:
        result.diagnostics["sigma"] *= span
    result.residual = problem.residual(result.x)


@torch.no_grad()
def misfits_scale(problem: Problem, prior: object, method: str) -> list[str | None]:
    """Per item why the data cannot come from images on the prior's scale; None where they can.

    The level c of the best constant image, <A 1, y> / ||A 1||^2, is the mean of the image for
    any operator that sees it; of measurements that are images the values themselves are looked at.

    Raises:
        InputError: data so far away that the prior says nothing about them.
    """
    one = problem.y.real.new_ones((problem.batch, *problem.shape))
    seen, y = problem.physics.A(one).flatten(1), problem.y.flatten(1)
    weight = seen.abs().square().sum(1)
    blind = weight < 1e-6 * y.shape[1]  # differences, or frequencies without the lowest
    level = torch.where(blind, 0.5, (seen.conj() * y).real.sum(1) / weight.clamp_min(1e-12))
    chance = (4 * problem.noise_level() / weight.sqrt().clamp_min(1e-12)).clamp_max(1)
    lowest, highest = _span_of(problem, prior, method, level)
    width = highest - lowest
    unlikely = (level < lowest - _NEAR * width - chance) | (
        level > highest + _NEAR * width + chance
    )
    outside = _values_outside(problem, lowest, highest)
    far = (level < lowest - _FAR * width - chance) | (level > highest + (_FAR - 1) * width + chance)
    found: list[str | None] = []
    for i, c in enumerate(level.tolist()):
        if not (unlikely[i] or outside[i]):
            found.append(None)
            continue
        odd = f"with a mean of {c:.3g}" if unlikely[i] else "with many values beyond"
        words = (
            f"the data look like images {odd}, but the prior's images lie in "
            f"{lowest:.2g} to {highest:.2g}: give the values of black and white as x_range=(low, "
            "high), such as (0, 255)"
        )
        if bool(far[i]) and method not in ("tv", "lasso"):
            raise InputError(words)
        found.append(words)
    return found


def _span_of(problem: Problem, prior: object, method: str, level: Tensor) -> tuple[float, float]:
    """[0, 1], or what a flow without that convention makes where the data lie outside of it."""
    inside = bool(((level > -_NEAR) & (level < 1 + _NEAR)).all())
    conditional = getattr(prior, "measurement", None) is not None
    if inside or method == "pnp" or not isinstance(prior, Generator) or conditional:
        return 0.0, 1.0
    levels = noise_range(prior)
    density = priors_at(prior, levels and levels[0])[0]
    generator = torch.Generator().manual_seed(0)
    like = problem.y.real
    z = torch.randn((8, *prior.latent_shape), generator=generator).to(like)
    x = density.decode(z)
    x = x[x.isfinite()]
    if not x.numel():
        return 0.0, 1.0
    return min(0.0, float(x.min())), max(1.0, float(x.max()))


def _values_outside(problem: Problem, lowest: float, highest: float) -> Tensor:
    """Whether many values of a measurement that is an image lie where no pixel can."""
    y, physics = as_given(problem)
    if not isinstance(physics, (Denoising, Inpainting, Blur, Downsampling)):
        return torch.zeros(problem.batch, dtype=torch.bool, device=y.device)
    noise = wide(problem.noise_level(), y)
    margin = 0.2 * (highest - lowest) + 4 * noise
    outside = (y < lowest - margin) | (y > highest + margin)
    return outside.flatten(1).float().mean(1) > 0.03
