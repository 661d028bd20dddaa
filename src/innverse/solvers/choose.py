"""Which method suits a problem: ``method="auto"``.

The rules are those that won on held-out training pictures with the shipped priors:

- whole photographs (natural-gray, 64x64): "pnp" is level with or ahead of "map" for pixels missing at
  random (30.3 to 30.2 dB at half), holes up to 24 pixels across, compressed sensing (28.5 to 28.0 at
  m/n = 0.25, 26.7 from a latent start), and several times as fast; "map" is ahead by 1 dB with 5 %
  of the pixels, and by 0.5 dB with a hole of 32 pixels;
- faces, of which the prior knows what stands where: "map" after a latent search fills holes
  and solves compressed sensing, where "pnp" leaves a smear (16 pixels across: 8 dB apart in the hole);
  of Fourier coefficients of one coil, x4, "map" is ahead too (24.6 to 21.7 dB, two faces);
- scans that show what is smooth (`shown`: tomography, several coils) are for "pnp" under any prior: of
  two faces 28.4 to 28.0 dB at 20 views, 33.6 to 33.1 at 60, noise .2, in half the time;
- operators of scans read from files say how strongly the prior is held: `LinearPhysics.advice`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from ..physics import Denoising
from ..protocols import has_density, noise_range
from .coverage import Coverage, as_given, coverage
from .posterior_mean import knows_posterior_mean
from .problem import Problem
from .shown import shown

LOCAL_FILL = 8  # pixels from the edge of a hole into it that a prior of textures can fill
_MOST_PIXELS = 2**20  # of an image, for the methods that keep all of it in memory


@dataclass
class Choice:
    """A method, the options that go with it, and why in words; ``notes`` are doubts."""

    method: str
    reason: str
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def choose(problem: Problem, prior: object, asked: Collection[str] = (), known=None) -> Choice:
    """The method for a problem under a prior, or None for no prior.

    Args:
        asked: options that the caller has set: the method must know them all.
        known: ``known(method)`` gives the options of a method.

    Raises:
        UsageError: no method that fits knows all options that are asked for.
    """
    ranked = _ranked(problem, prior)
    known = known or (lambda method: asked)
    for choice in ranked:
        if set(asked) <= set(known(choice.method)):
            if choice is not ranked[0]:
                named = ", ".join(sorted(set(asked) - set(known(ranked[0].method))))
                choice.reason = f"{named} was given ({ranked[0].method} without it)"
            choice.options = {k: v for k, v in choice.options.items() if k not in asked}
            return choice
    raise UsageError(
        f"no method knows all of the options {', '.join(sorted(asked))}: name one, method='map'"
    )


def _ranked(problem: Problem, prior: object) -> list[Choice]:
    """What fits, best first."""
    tv = [Choice(name, f"{name} needs no prior") for name in ("tv", "lasso", "deep_decoder")]
    if prior is None and not problem.physics.linear:
        return _of_any_operator(prior)
    if prior is None:
        tv[0].reason = "there is no prior"
        return tv
    if getattr(prior, "measurement", None) is not None:
        return [Choice("amortised", "the model was trained to answer measurements")]
    if not problem.physics.linear:
        return _of_any_operator(prior)
    if not has_density(prior):
        first = Choice("latent", "the prior is a generator without a density of all images")
        return [first, Choice("adaptive", ""), *tv]
    others = [Choice("map", ""), Choice("latent", ""), Choice("constrained", ""),
              Choice("adaptive", ""), *tv]  # fmt: skip
    levels = noise_range(prior) is not None
    if levels:
        others.insert(0, Choice("pnp", ""))
    if not levels:
        first = Choice("latent", "the prior is not conditioned on a noise level, as pnp needs")
    elif knows_posterior_mean(problem, prior):
        first = Choice("pnp", "noise alone: the posterior mean in one step")
    else:
        first = _with_levels(problem, prior, coverage(problem))
    return [first, *(c for c in others if c.method != first.method)]


def _of_any_operator(prior: object) -> list[Choice]:
    """What takes operators that are not linear."""
    decoder = Choice("deep_decoder", "the operator is not linear, and there is no prior")
    if prior is None:
        return [decoder]
    ways = [Choice("latent", "the operator is not linear"), Choice("adaptive", ""), decoder]
    if has_density(prior):
        ways.insert(0, Choice("map", "the operator is not linear"))
    return ways


def _with_levels(problem: Problem, prior: object, cover: Coverage) -> Choice:
    pixels = problem.shape[-2] * problem.shape[-1]
    whole = knows_places(problem, prior)
    if pixels > _MOST_PIXELS:
        return Choice("pnp", f"{pixels / 1e6:.1f} megapixels, which pnp solves tile by tile")
    if advice := as_given(problem)[1].advice:
        # what such an operator does not see at all is no gap, but lies outside of the body
        words = "a scanner's operator is estimated or idealised, and advises how the prior is held"
        return Choice("pnp", words, dict(advice))
    if whole and cover.global_ and not shown(problem):
        words = (
            "every measurement depends on the whole image, and the prior knows what stands where"
        )
        return Choice("map", words)
    if whole and cover.gap > 1:
        words = f"a gap {2 * cover.gap} pixels across, and a prior that knows what stands where"
        return Choice("map", words)
    if cover.gap > 12:
        words = f"a gap {2 * cover.gap} pixels across is more than a denoiser fills"
        return Choice("map", words)
    if cover.holes and cover.ratio < 0.08:
        return Choice("map", f"only {cover.ratio:.1%} of the pixels are measured")
    why = (
        "the gaps between measured pixels are small"
        if cover.holes
        else "what is smooth is seen, and its denoiser is led by it"
        if cover.global_ and shown(problem)
        else "no image of this prior shows what stands where: its denoiser is led by the data"
        if cover.global_
        else "every pixel is measured"
    )
    return Choice("pnp", why)


def map_start(problem: Problem, prior: object, cover: Coverage) -> str:
    """Where "map" begins: a latent search where no image made of the data alone is near."""
    if knows_places(problem, prior):
        unseen = cover.global_ and not shown(problem)
        return "latent" if unseen or cover.gap > 1 else "data"
    return "latent" if cover.gap > 12 else "data"


def knows_places(problem: Problem, prior: object) -> bool:
    """Whether the prior is of whole images of this size, not of pieces that may lie anywhere.

    Training tells: pieces of photographs may be turned by a quarter, a face or a digit may not.
    """
    return tuple(getattr(prior, "shape", ())) == problem.shape and "transpose" not in getattr(
        prior, "symmetries", ()
    )


def doubts(problem: Problem, prior: object, method: str) -> list[str]:
    """What a reader of the result should know about regions that nothing was measured of."""
    physics = as_given(problem)[1]
    if isinstance(physics, Denoising) or physics.advice:
        return []
    cover = coverage(problem)
    if not cover.holes:
        return []
    across = f"{2 * cover.gap} pixels across"
    if method in ("deep_decoder", "lasso", "tv") or prior is None:
        fill, whose = 4, f"method {method!r}"
    elif knows_places(problem, prior) and method != "pnp":
        fill, whose = math.inf, ""
        if cover.missing > 0.5 and cover.gap > LOCAL_FILL:
            fill, whose = LOCAL_FILL, "the measurement"
    else:
        fill, whose = LOCAL_FILL, "this prior" if method != "pnp" else "method 'pnp'"
    if cover.gap <= fill:
        return []
    words = f"a region about {across} was not measured, which is more than {whose} can fill"
    return [f"{words}: what stands there is a guess"]
