"""Posterior of the image together with what is not known of the measurement: its noise level, and a
parameter of the operator such as the width of a blur.

Gibbs sampling (Gelman et al. 2013, chapter 11): the image by Hamiltonian Monte Carlo given the rest;
the noise level given the image from its conjugate law; the parameter by a random walk of its
logarithm. Both have log-uniform priors between bounds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....accelerate.constant import constant_parameters
from ....errors import UsageError
from ....flows.padding import pad_to_multiple
from ....metrics.chains import effective_size, r_hat
from ....physics import LinearPhysics, NoNoise, as_physics
from ....progress import Report
from ....protocols import multiple_of
from ....showing.shown import Shown
from ...levels import level_of, priors_at
from ...needs import check_density
from ...problem import Problem
from ...reconstruction import Reconstruction
from ...scale import back, checked_range, onto_unit, whole_numbers
from ...solve import check_init, checked
from ..adapt import DualAveraging, first_step
from ..chains import transition
from ..choose_metric import scale_of
from ..metric import Metric
from ..randomness import Streams
from ..start import begin, reconstruction
from ..verdict import ALIKE
from .setting import length
from .summary import summary
from .unknown import Bounds, Measurement, OnePerItem, Parametrised

_LEVELS = (0.002, 0.5)  # of noise that is not known, of images from 0 to 1


@dataclass(repr=False)
class JointPosterior(Shown):
    """Draws of image, noise level and parameter that belong together.

    Attributes:
        images: the draws of the image, their mean and spread, as `innverse.solve` gives them.
        noise: draws of the standard deviation of the noise (S, B), or None where it was given.
        parameter: draws of the parameter of the operator (S, B), or None.
        r_hat, ess: of both by name, {"noise": (B,), "parameter": (B,)}.
        converged: bool (B,), of all together.

    Example:
        >>> flow = innverse.flows.build("realnvp", (1, 8, 8), levels=1, hidden=4)
        >>> y = flow.sample(1) + 0.1 * torch.randn(1, 1, 8, 8)
        >>> few = {"draws": 8, "chains": 2, "warmup": 4, "steps": 2, "init": y}
        >>> found = joint_posterior(y, innverse.physics.Denoising(), flow, **few)
        >>> found.noise.shape, found.images.samples.shape
        (torch.Size([8, 1]), torch.Size([8, 1, 1, 8, 8]))
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
            found &= (r <= ALIKE).to(found.device)
        return found

    def plot(self, item: int = 0) -> Any:
        """A pair plot of noise level and parameter of one item; ``images.plot()`` draws the images.

        Raises:
            InnverseError: matplotlib is not installed.
        """
        from ....showing.figures import of_joint

        return of_joint(self, item)

    def _card(self):
        from ....showing.posterior import joint

        return joint(self)


@torch.inference_mode(False)
def joint_posterior(
    y: Tensor,
    physics,
    prior,
    *,
    noise: float | Bounds | None = None,
    parameter: Bounds | None = None,
    sigma: float | None = None,
    draws: int = 400,
    chains: int = 4,
    warmup: int = 200,
    steps: int = 15,
    init: Tensor | None = None,
    x_range: tuple[float, float] | None = None,
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
            of y; or one number if it is known. By default .002 and .5 of the way from black to white.
        parameter: bounds between which the parameter, > 0, is log-uniform; None: the operator is
            known.
        sigma: level of a noise-conditional prior, as of the method "posterior".
        draws, chains, warmup, steps, seed: likewise.
        init: images (B, C, H, W) to begin with; by default a reconstruction.
        x_range: the values of x that stand for black and white, as of `innverse.solve`.
        image_shape: (C, H, W), for operators that do not know it.
        progress: called as progress(done, total, note).

    Raises:
        UsageError: bounds that are none, a prior without density, nothing unknown. InputError and
            ShapeError: as `innverse.solve`.

    Example:
        >>> flow = innverse.flows.build("realnvp", (1, 8, 8), levels=1, hidden=4)
        >>> def blur(width):
        ...     return innverse.physics.Blur(innverse.physics.gaussian_kernel(width, 5))
        ...
        >>> y = blur(1.0).A(flow.sample(1)) + 0.1 * torch.randn(1, 1, 8, 8)
        >>> few = {"draws": 8, "chains": 2, "warmup": 4, "steps": 2, "init": y}
        >>> joint_posterior(y, blur, flow, noise=0.1, parameter=(0.5, 2.0), **few).parameter.shape
        torch.Size([8, 1])
    """
    if isinstance(prior, str):
        from ....zoo import load

        prior = load(prior)
    check_density("joint_posterior", prior)
    numbers = {"draws": draws, "chains": chains, "warmup": warmup, "steps": steps, "seed": seed}
    found = checked("posterior", numbers | {"init": init, "sigma": sigma})
    draws, chains, warmup, steps, seed = (found[name] for name in numbers)
    init = found.get("init")
    x_range = checked_range(x_range)
    y = y if x_range is None else whole_numbers(y)
    widths = None if parameter is None else _bounds("parameter", parameter)
    if noise is not None:
        noise = _bounds("noise", noise if isinstance(noise, Sequence) else (noise, noise))
        if widths is None and noise[0] == noise[1]:
            raise UsageError("noise and operator are known: give bounds of one, or call solve")
    if widths is not None and widths[0] == widths[1]:
        raise UsageError(
            f"parameter={parameter!r}: its bounds are equal; leave it out if it is known"
        )
    if widths is not None and (isinstance(physics, torch.nn.Module) or not callable(physics)):
        raise UsageError(
            f"with parameter= physics is a function of it that makes an operator, got "
            f"{type(physics).__name__}"
        )
    if widths is not None and torch.as_tensor(y).is_complex():
        raise UsageError(
            "with parameter= measurements are real: give y and the operator in two channels"
        )

    def make(value: float) -> LinearPhysics:
        return as_physics(physics(value), image_shape)

    known = physics if widths is None else make(math.sqrt(widths[0] * widths[1]))
    with constant_parameters():
        whole = Problem.build(y, known, prior, NoNoise(), image_shape, progress)
        x_range = x_range or whole.given[1].image_range or (0.0, 1.0)
        low, span = x_range[0], x_range[1] - x_range[0]
        levels = _LEVELS if noise is None else (noise[0] / span, noise[1] / span)
        problem = onto_unit(whole, x_range)
        y, known = problem.given  # in units of the user, as the bounds are
        middle = math.sqrt(levels[0] * levels[1])
        problem = dataclasses.replace(problem, y=y, physics=known, noise=middle, scale=1.0)
        if widths is None:
            measurement = Measurement(problem, chains, levels)
        else:
            measurement = Parametrised(problem, chains, levels, widths, make, low / span)
        if init is not None:
            init = (init - low) / span
        check_init(problem, prior, False, init)
        found = _sample(problem, prior, measurement, sigma, draws, warmup, steps, init, seed)
    if found.parameter is not None:
        each = [make(mean) for mean in found.parameter.mean(0).tolist()]
        whole.given = whole.given[0], OnePerItem(each)
    back(found.images, x_range, whole)
    if found.noise is not None:
        found.noise = span * found.noise
    return found


def _sample(problem, prior, measurement, sigma, draws, warmup, steps, init, seed) -> JointPosterior:
    density, chains = priors_at(prior, sigma)[0], measurement.chains
    n, level = -(-draws // chains), level_of(density)
    start = reconstruction(problem, prior) if init is None else init
    start = pad_to_multiple(start, multiple_of(prior))
    scale = scale_of(density, level, start).repeat_interleave(chains)
    streams = Streams(problem.y, chains, seed)
    target = measurement.target(density, problem.crop)
    start = start.repeat_interleave(chains, 0)
    point = begin(target, Metric(target, scale), streams, start)
    adapt = DualAveraging(torch.full((problem.batch,), first_step(start)).to(problem.y))
    kept: list[Tensor] = []
    others: dict[str, list[Tensor]] = {name: [] for name in measurement.unknown}
    accepted = torch.zeros(problem.batch).to(point.log_p)
    diverged = torch.zeros(problem.batch, dtype=torch.long, device=accepted.device)
    evaluations = 1
    for k in range(warmup + n):
        size = (adapt.step if k < warmup else adapt.final).repeat_interleave(chains)
        count = length(steps, k, seed)
        result = transition(target, Metric(target, scale), point, streams, k, size, count)
        image = problem.crop(result.point.u)
        measurement.draw(image, streams, k, adapting=k < warmup)
        target = measurement.target(density, problem.crop)
        point = target.at(result.point.u)
        evaluations += count + 1
        acceptance = result.acceptance.view(-1, chains).mean(1)
        if k < warmup:
            adapt.update(acceptance)
        else:
            kept.append(image)
            for name, value in measurement.unknown.items():
                others[name].append(value)
            accepted += acceptance / n
            diverged += result.diverged.view(-1, chains).sum(1)
        told = f"{'warm-up' if k < warmup else 'sampling'}, acceptance {acceptance.mean():.2f}"
        problem.progress(k + 1, warmup + n, told)
    found = {name: torch.stack(v, 1).unflatten(0, (-1, chains)) for name, v in others.items()}
    images = summary(
        problem,
        density,
        torch.stack(kept, 1).unflatten(0, (-1, chains)),
        "joint_posterior",
        {"acceptance": accepted, "divergences": diverged, "sigma": level},
        evaluations=torch.full((problem.batch,), evaluations),
    )
    by_name = {name: value.flatten(1).T for name, value in found.items()}
    return JointPosterior(
        images,
        by_name.get("noise"),
        by_name.get("parameter"),
        r_hat={name: torch.stack([r_hat(item) for item in v]) for name, v in found.items()},
        ess={name: torch.stack([effective_size(item) for item in v]) for name, v in found.items()},
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
