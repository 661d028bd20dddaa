"""Posterior of the image together with what is not known of the measurement: its noise level, and a
parameter of the operator such as the width of a blur.

Gibbs sampling (Gelman et al. 2013, chapter 11): the image by Hamiltonian Monte Carlo given the rest;
the noise level given the image from its conjugate law; the parameter by a random walk of its
logarithm. Both have log-uniform priors between bounds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...accelerate.constant import constant_parameters
from ...errors import UsageError
from ...flows.padding import pad_to_multiple
from ...metrics.chains import effective_size, r_hat
from ...physics import LinearPhysics, as_physics
from ...progress import Report
from ...protocols import Density, multiple_of
from ..levels import priors_at
from ..problem import Problem
from ..reconstruction import Reconstruction
from .adapt import DualAveraging
from .constant import measured
from .hmc import move
from .metric import Metric
from .randomness import Streams
from .solve import _FIRST_STEP, _begin, _length, _result, _scale, _start
from .target import Target

Bounds = tuple[float, float]
Maker = Callable[[float], LinearPhysics]

_WALK = 0.44  # acceptance of the best random walk in one dimension (Roberts & Rosenthal 2001)
_FIRST_WALK = 0.1  # of log parameter
_ALIKE = 1.05  # R-hat


@dataclass
class JointPosterior:
    """Draws of image, noise level and parameter that belong together.

    Attributes:
        images: the draws of the image, their mean and spread, as `innverse.solve` gives them.
        noise: draws of the standard deviation of the noise (S, B), or None where it was given.
        parameter: draws of the parameter of the operator (S, B), or None.
        r_hat, ess: of both by name, {"noise": (B,), "parameter": (B,)}.
        converged: bool (B,), of all together.

    Example:
        >>> JointPosterior.__name__
        'JointPosterior'
    """

    images: Reconstruction
    noise: Tensor | None
    parameter: Tensor | None
    r_hat: dict[str, Tensor]
    ess: dict[str, Tensor]

    @property
    def converged(self) -> Tensor:
        found = self.images.converged.clone()
        for r in self.r_hat.values():
            found &= (r <= _ALIKE).to(found.device)
        return found


class OnePerItem(LinearPhysics):
    """Another operator for every item of a batch."""

    def __init__(self, parts: Sequence[LinearPhysics]):
        super().__init__(parts[0].image_shape)
        self.parts = parts

    def A(self, x: Tensor) -> Tensor:
        return torch.cat([p.A(each) for p, each in zip(self.parts, x.split(1), strict=True)])

    def A_adjoint(self, y: Tensor) -> Tensor:
        return torch.cat(
            [p.A_adjoint(each) for p, each in zip(self.parts, y.split(1), strict=True)]
        )

    def solve_normal(self, rhs, rho, x0=None, **options):
        rows = zip(self.parts, rhs.split(1), rho.expand(len(rhs)).split(1), strict=True)
        return torch.cat([p.solve_normal(b, r, **options) for p, b, r in rows])


class Unknowns:
    """What the chains (N,) hold besides the image: noise levels s, and parameters with operators.

    Chains begin spread over the middle half of the bounds, so that R-hat tells when they have met.
    """

    def __init__(
        self, problem: Problem, levels: Bounds, widths: Bounds | None, make: Maker, chains: int
    ):
        items = torch.arange(problem.batch, device=problem.y.device).repeat_interleave(chains)
        self.y, self.levels, self.widths, self.make = problem.y[items], levels, widths, make
        self.s = _spread(levels, chains).repeat(problem.batch).to(problem.y)
        self.parameter = self.physics = None
        if widths is None:
            self.physics = problem.physics.select(items)
        else:
            self.parameter = _spread(widths, chains).repeat(problem.batch).to(problem.y)
            self.physics = self._operator(self.parameter)
        self.seen = measured(problem.physics, problem.y, problem.shape)[items]
        self.walk = torch.full((problem.batch,), _FIRST_WALK).to(problem.y)
        self.chains, self._walks = chains, 0

    def target(self, density, crop) -> Target:
        return Target(density, self.physics, self.y, self.s, crop)

    @torch.no_grad()
    def update(self, image: Tensor, streams: Streams, k: int, adapt: bool) -> None:
        """Draw s and the parameter given images (N, C, H, W)."""
        misfit = self._misfit(self.physics, image)
        if self.levels[0] < self.levels[1]:
            # log-uniform s: misfit / s^2 is chi-square of as many degrees as values; beyond the
            # bounds a chain stays (Metropolis, the proposal being the law without bounds)
            normal = streams.normal(tuple(self.y.shape[1:]), k, "level")
            s = (misfit / (normal * self.seen).flatten(1).square().sum(1)).sqrt()
            self.s = torch.where((s > self.levels[0]) & (s < self.levels[1]), s, self.s)
        if self.widths is not None:
            normal, uniform = streams.normal((), k, "walk"), streams.uniform(k, "walked")
            self._walk(image, misfit, normal, uniform, adapt)

    def _walk(self, image, misfit, normal, uniform, adapt: bool) -> None:
        log_step = self.walk.repeat_interleave(self.chains) * normal
        parameter = self.parameter * log_step.exp()
        inside = (parameter > self.widths[0]) & (parameter < self.widths[1])
        parameter = torch.where(inside, parameter, self.parameter)
        physics = self._operator(parameter)
        gain = (misfit - self._misfit(physics, image)) / (2 * self.s.square())
        probability = gain.clamp(max=0).exp() * inside
        accepted = uniform < probability
        self.parameter = torch.where(accepted, parameter, self.parameter)
        rows = zip(accepted.tolist(), physics.parts, self.physics.parts, strict=True)
        self.physics = OnePerItem([new if yes else old for yes, new, old in rows])
        if adapt:
            self._walks += 1
            over = probability.view(-1, self.chains).mean(1) - _WALK
            self.walk = self.walk * (over * 3 / math.sqrt(self._walks)).exp()

    def _operator(self, parameter: Tensor) -> OnePerItem:
        return OnePerItem([self.make(p) for p in parameter.tolist()])

    def _misfit(self, physics, image: Tensor) -> Tensor:
        return (physics.A(image) - self.y).flatten(1).square().sum(1)


@torch.inference_mode(False)
def joint_posterior(
    y: Tensor,
    physics,
    prior,
    *,
    noise: float | Bounds = (0.002, 0.5),
    parameter: Bounds | None = None,
    sigma: float | None = None,
    draws: int = 400,
    chains: int = 4,
    warmup: int = 200,
    steps: int = 15,
    init: Tensor | None = None,
    image_shape: tuple[int, int, int] | None = None,
    seed: int = 0,
    progress: Report | None = None,
) -> JointPosterior:
    """Draw image, noise level and a parameter of the operator from their joint posterior.

    Args:
        y: measurements (B, ...) with Gaussian noise of one level an item.
        physics: an operator; or, with ``parameter``, a function that makes one of a number, such as
            ``lambda width: Blur(gaussian_kernel(width))``. Its own noise level is not used.
        prior: a flow, noise-conditional or not.
        noise: bounds (low, high) between which the standard deviation is log-uniform, on the scale
            of y; or one number if it is known.
        parameter: bounds between which the parameter, > 0, is log-uniform; None: the operator is
            known.
        sigma: level of a noise-conditional prior, as of the method "posterior".
        draws, chains, warmup, steps, seed: likewise.
        init: images (B, C, H, W) to begin with; by default a reconstruction.
        image_shape: (C, H, W), for operators that do not know it.
        progress: called as progress(done, total, note).

    Raises:
        UsageError: bounds that are none, a prior without density, nothing unknown. InputError and
            ShapeError: as `innverse.solve`.

    Example:
        >>> flow = innverse.flows.build("realnvp", (1, 8, 8), levels=1, steps=1, hidden=4)
        >>> y = flow.sample(1) + 0.1 * torch.randn(1, 1, 8, 8)
        >>> physics = innverse.physics.Denoising()
        >>> few = {"draws": 8, "chains": 2, "warmup": 4, "steps": 2, "init": y}
        >>> joint_posterior(y, physics, flow, **few).noise.shape
        torch.Size([8, 1])
    """
    if isinstance(prior, str):
        from ...zoo import load

        prior = load(prior)
    if not isinstance(prior, Density):
        raise UsageError(f"{type(prior).__name__} has no log_prob: choose a flow")
    levels = _bounds("noise", noise if isinstance(noise, Sequence) else (noise, noise))
    widths = None if parameter is None else _bounds("parameter", parameter)
    if widths is None and levels[0] == levels[1]:
        raise UsageError("noise and operator are known: give bounds of one, or call solve")

    def make(value: float) -> LinearPhysics:
        return as_physics(physics(value), image_shape)

    known = physics if widths is None else make(math.sqrt(widths[0] * widths[1]))
    s = math.sqrt(levels[0] * levels[1])
    with constant_parameters():
        problem = Problem.build(y, known, prior, s, image_shape, progress)
        if problem.given is not None:  # in units of the user, as the bounds are
            problem = dataclasses.replace(
                problem, y=problem.given[0], physics=problem.given[1], noise=s, scale=1.0
            )
        density, n = priors_at(prior, sigma)[0], -(-draws // chains)
        start = pad_to_multiple(
            _start(problem, prior) if init is None else init, multiple_of(prior)
        )
        level, scale = _scale(density, prior, start)
        start, scale = start.repeat_interleave(chains, 0), scale.repeat_interleave(chains)
        shape, of_data = tuple(start.shape[1:]), tuple(problem.y.shape[1:])
        streams = Streams(problem.y, chains, seed)
        unknown = Unknowns(problem, levels, widths, make, chains)
        target = unknown.target(density, problem.crop)
        apart = scale.view(-1, 1, 1, 1) * streams.normal(shape, 0, "start")
        point = _begin(target, start, apart)
        adapt = DualAveraging(torch.full((problem.batch,), _FIRST_STEP).to(problem.y))
        kept, levels_kept, parameters_kept = [], [], []
        accepted = torch.zeros(problem.batch).to(point.log_p)
        diverged = torch.zeros(problem.batch, dtype=torch.long, device=accepted.device)
        evaluations = 1
        for k in range(warmup + n):
            size = (adapt.step if k < warmup else adapt.final).repeat_interleave(chains)
            length = _length(steps, k, seed)
            metric = Metric(target, scale)
            p = metric.momenta(
                streams.normal(of_data, k, "data"), streams.normal(shape, k, "image")
            )
            result = move(target, metric, point, p, streams.uniform(k, "accept"), size, length)
            image = problem.crop(result.point.u)
            unknown.update(image, streams, k, adapt=k < warmup)
            target = unknown.target(density, problem.crop)
            point = target.at(result.point.u)
            evaluations += length + 1
            acceptance = result.acceptance.view(-1, chains).mean(1)
            if k < warmup:
                adapt.update(acceptance)
            else:
                kept.append(image)
                levels_kept.append(unknown.s)
                parameters_kept.append(unknown.parameter)
                accepted += acceptance / n
                diverged += result.diverged.view(-1, chains).sum(1)
            stage = "warm-up" if k < warmup else "sampling"
            problem.progress(
                k + 1, warmup + n, f"{stage}, acceptance {float(acceptance.mean()):.2f}"
            )
        drawn = {}
        if levels[0] < levels[1]:
            drawn["noise"] = torch.stack(levels_kept, 1).unflatten(0, (-1, chains))
        if widths is not None:
            drawn["parameter"] = torch.stack(parameters_kept, 1).unflatten(0, (-1, chains))
            means = drawn["parameter"].flatten(1).mean(1).tolist()
            problem.given = problem.y, OnePerItem([make(mean) for mean in means])
        images = _result(
            problem, density, kept, chains, accepted, diverged, evaluations, [], level
        )  # fmt: skip
    images.method = "joint"
    return JointPosterior(
        images,
        *(drawn[name].flatten(1).T if name in drawn else None for name in ("noise", "parameter")),
        r_hat={name: torch.stack([r_hat(item) for item in v]) for name, v in drawn.items()},
        ess={name: torch.stack([effective_size(item) for item in v]) for name, v in drawn.items()},
    )


def _bounds(name: str, given) -> Bounds:
    """Two finite numbers, 0 < low <= high."""
    try:
        low, high = (float(v) for v in given)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (0 < low <= high < math.inf):
        raise UsageError(f"{name}={given!r}: give bounds (low, high), 0 < low < high")
    return low, high


def _spread(bounds: Bounds, chains: int) -> Tensor:
    """(chains,) evenly in log over the middle half of the bounds."""
    t = 0.25 + 0.5 * (torch.arange(chains, dtype=torch.float64) + 0.5) / chains
    return bounds[0] * (bounds[1] / bounds[0]) ** t
