"""Where chains begin, and the falling noise levels that bring them from there to the posterior."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...protocols import is_of_codes, noise_range
from ..choose import choose
from ..latent import Latent
from ..levels import SHARP
from ..map import MAP
from ..pnp import PlugAndPlay
from ..problem import Problem
from .metric import Kinetic
from .randomness import Streams
from .target import Point, Target

_FIRST = 0.3  # level at which images are little more than noise and chains move freely
_RUNGS = 12  # most levels between
_DARK = 0.02  # an intensity at which photons may be counted


def reconstruction(problem: Problem, prior) -> Tensor:
    """An image to start from: what ``method="auto"`` takes of plug-and-play and MAP."""
    quiet = dataclasses.replace(problem, progress=lambda *_: None)
    if is_of_codes(prior):
        return Latent().solve(quiet, prior).x
    if not problem.physics.linear:
        return MAP(start="data", sigma=SHARP).solve(quiet, prior).x
    if noise_range(prior) is None:
        return MAP().solve(quiet, prior).x
    if not hasattr(prior, "noise"):  # no flow of ours, whose denoiser has views
        return problem.first_guess()
    choice = choose(problem, prior)
    if choice.method != "pnp":
        return MAP(start=choice.options.get("start")).solve(quiet, prior).x
    return PlugAndPlay(views=1).search(quiet, prior).x


def levels(prior, last: float | None, transitions: int) -> list[float | None]:
    """The level of each of ``transitions``, falling to ``last``; None for a prior without any."""
    span = noise_range(prior)
    if span is None or last is None or transitions == 0:
        return [last] * transitions
    first = max(last, min(_FIRST, span[1]))
    rungs = min(_RUNGS, transitions)
    ladder = [first * (last / first) ** (i / rungs) for i in range(rungs)]
    return [ladder[k * rungs // transitions] for k in range(transitions)]


def apart(metric: Kinetic, streams: Streams, y: Tensor, like: Tensor) -> Tensor:
    """From N(0, M^-1): as far as the level lets chains be, but along what is measured no further than
    its noise, from where they would fall with energies that no step survives."""
    of_data = streams.normal(tuple(y.shape[1:]), 0, "start data")
    of_image = streams.normal(tuple(like.shape[1:]), 0, "start")
    return metric.velocity(metric.momenta(of_data, of_image))


def begin(target: Target, metric: Kinetic, streams: Streams, start: Tensor) -> Point:
    """Chains `apart` around ``start``; brighter and together where that has no likelihood (photons were
    counted where the image is not positive)."""
    point = target.at(start + apart(metric, streams, target.y, start))
    possible = torch.isfinite(point.log_p)
    if bool(possible.all()):
        return point
    return target.at(start.clamp_min(_DARK)).where(possible, point)
