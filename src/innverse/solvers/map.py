"""Maximum a posteriori in image space: min_x ||A x - y||^2 / (2 s^2) - beta log p(x).

The log-density is the flow's exact one, log-determinant included; without it -log p(x) is
||f(x)||^2 / 2, what Asim et al. 2020 (arXiv 1905.11672) search for in latent space. ``beta`` tempers
the likelihood to p(x)^beta (Whang et al. 2021, arXiv 2003.08089). With a noise-conditional flow the
search starts with the smoothed density at a large sigma and follows it down (graduated
non-convexity), each stage from the result of the last. Where the data say little about single
pixels (compressed sensing) no image that is computed from them alone is a start: the latent search
of Asim et al. is, and the density then sharpens what it found.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..catalog import Method
from ..flows.padding import pad_to_multiple
from ..optim import lbfgs
from ..options import LEVEL, array, choice, real, switch, whole
from ..protocols import Density, Encoder, multiple_of, noise_range
from .choose import map_start
from .coverage import coverage
from .curvature import inverse_curvature
from .latent import latent_guess
from .levels import SHARP, levels_of, map_level, priors_at
from .needs import check_density
from .problem import Problem
from .reconstruction import Reconstruction
from .watch import Watch

_STAGES = 4
_FIRST_SIGMA = 0.2


class MAP(Method):
    """The most likely image: max over x of beta log p(x) - ||A x - y||^2 / (2 noise^2).

    L-BFGS in x that begins with the curvature of the misfit, and the most that a density smoothed by
    sigma has. A noise-conditional prior is led through falling levels: four stages from 0.2, or
    after a latent start the last at once, or those that are given.
    """

    any_operator = True

    sigma: float | Sequence[float] | None = real(
        None, LEVEL, above=0, several=True, auto="0.01 to 0.04, the fewer data the higher"
    )
    beta: float = real(1.0, "Weight of log p(x).", above=0)
    logdet: bool = switch(
        True, "Whether the log-determinant counts; without it the prior is ||f(x)||^2 / 2."
    )
    steps: int = whole(200, "Iterations.")
    start: str | None = choice(
        None,
        'Where the search begins: "data" the image nearest to a constant that the data allow, '
        '"latent" what half of the steps find in latent space from z = 0 at sigma 0.02.',
        ("data", "latent"),
        auto="latent where the prior knows what stands where and the data do not show it",
    )
    init: Tensor | None = array(None, "Latents (B, ...) or images (B, C, H, W) to begin with.")

    def solve(self, problem: Problem, prior: Density) -> Reconstruction:
        check_density("map", prior)
        start, sigma, steps = self.start, self.sigma, self.steps
        if start is None or sigma is None:
            cover = coverage(problem)
            start = map_start(problem, prior, cover) if start is None else start
            sigma = map_level(cover.ratio) if sigma is None else sigma
        multiple = multiple_of(prior)
        weight = 0.5 / problem.noise_level().square()
        watch = Watch(problem, steps)
        if self.init is None and start == "latent":
            x = latent_guess(problem, priors_at(prior, SHARP)[0], steps // 2, watch)
            steps -= steps // 2
            levels = levels_of(prior, sigma)
        else:
            x = pad_to_multiple(problem.first_guess() if self.init is None else self.init, multiple)
            levels = levels_of(prior, _stages(prior, sigma))
        stages = list(zip(levels or [SHARP], priors_at(prior, levels), strict=True))
        for level, density in stages:
            watch.restart()

            def objective(x: Tensor, idx: Tensor, density=density) -> Tensor:
                misfit = problem.misfit(problem.crop(x), idx)
                if self.logdet:
                    log_p = density.log_prob(x)
                    watched = {"log_prob": log_p}
                else:
                    square = density.encode(x).flatten(1).square().sum(1)
                    log_p = -0.5 * square
                    watched = {"z_norm": (square / x[0].numel()).sqrt()}
                value = weight[idx] * misfit - self.beta * log_p
                watch.saw(idx, value, misfit, **watched)
                return value

            result = lbfgs.minimize(
                objective,
                x,
                max_iter=max(1, steps // len(stages)),
                tol_change=1e-7,
                callback=watch.step,
                precondition=inverse_curvature(problem, x, level / self.beta**0.5),
            )
            x = result.z
        with torch.no_grad():
            log_prob = density.log_prob(x)
            z = density.encode(x) if isinstance(density, Encoder) else None
        found = {"z": z, "log_prob": log_prob, "converged": result.finished}
        found |= {"status": result.status} | watch.record
        return Reconstruction.of(problem, problem.crop(x), "map", **found)


def _stages(prior: object, sigma) -> list[float] | None:
    """Falling noise levels that end at ``sigma``; None for a prior without levels."""
    if noise_range(prior) is None:
        return None
    if isinstance(sigma, Sequence):
        return list(sigma)
    first = max(_FIRST_SIGMA, sigma)
    return [first * (sigma / first) ** (k / (_STAGES - 1)) for k in range(_STAGES)]
