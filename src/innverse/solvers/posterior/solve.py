"""Posterior draws of images, with the diagnostics that say whether to believe them.

Hamiltonian Monte Carlo in image space and in the metric of the problem (see `metric`): warm-up from
a reconstruction, step sizes by dual averaging, all chains of all items in one batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ...catalog import Method
from ...errors import UsageError
from ...flows.padding import pad_to_multiple
from ...metrics.chains import effective_size, effective_size_of_tails, r_hat
from ...options import LEVEL, SEEDS, array, real, whole
from ...physics import PoissonNoise
from ...protocols import Density, multiple_of, noise_range
from ..levels import priors_at
from ..problem import Problem
from ..reconstruction import Reconstruction
from .adapt import DualAveraging
from .hmc import move
from .likelihood import poisson
from .metric import Metric, steepest_scale
from .randomness import Streams
from .target import Point, Target

_FIRST_STEP = 0.1
_JITTER = 0.4  # of the number of leapfrog steps, so that no period of the target is met
_ALIKE, _ALIKE_ALL = 1.05, 1.1  # R-hat of 99 % of the pixels, and of all
_DARK = 0.02  # an intensity at which photons may be counted
_ENOUGH = 50  # effective draws of the median pixel


class PosteriorDraws(Method):
    """Draws of p(x | y) by Hamiltonian Monte Carlo: x is their mean, std their spread.

    All chains of all items run together. With a noise-conditional prior what is sampled is an image
    plus noise of the level sigma.
    """

    sigma: float | Sequence[float] | None = real(
        None, LEVEL, above=0, several=True, auto="0.02, or the nearest that it knows"
    )
    draws: int = whole(400, "Draws that are kept, of all chains together.", 8)
    chains: int = whole(4, "Chains that make them.", 2, 4096)
    warmup: int = whole(100, "Transitions before, which adapt the step size.", 0)
    steps: int = whole(15, "Leapfrog steps of a transition, on average.")
    init: Tensor | None = array(None, "Latents (B, ...) or images (B, C, H, W) to begin with.")
    seed: int = whole(0, "Of random numbers.", *SEEDS)

    def solve(self, problem: Problem, prior) -> Reconstruction:
        if not isinstance(prior, Density):
            raise UsageError(
                f"method 'posterior' needs a density: {type(prior).__name__} has no log_prob; "
                "choose a flow"
            )
        if problem.noise is None:
            raise UsageError(
                "method 'posterior' needs the noise level: pass noise=, or a physics that knows it"
            )
        density = priors_at(prior, self.sigma)[0]
        n = -(-self.draws // self.chains)
        target = _target(problem, density, self.chains)
        streams = Streams(problem.y, self.chains, self.seed)
        start = pad_to_multiple(
            _start(problem, prior) if self.init is None else self.init,
            multiple_of(prior),
        )
        level, scale = _scale(density, prior, start)
        start, scale = start.repeat_interleave(self.chains, 0), scale.repeat_interleave(self.chains)
        metric = Metric(target, scale)
        shape, of_data = tuple(start.shape[1:]), tuple(problem.y.shape[1:])
        point = _begin(target, start, scale.view(-1, 1, 1, 1) * streams.normal(shape, 0, "start"))
        adapt = DualAveraging(torch.full((problem.batch,), _FIRST_STEP).to(problem.y))
        kept, trace = [], []
        accepted = torch.zeros(problem.batch, dtype=point.log_p.dtype, device=point.log_p.device)
        diverged = torch.zeros(problem.batch, dtype=torch.long, device=accepted.device)
        evaluations = 1
        for k in range(self.warmup + n):
            size = (adapt.step if k < self.warmup else adapt.final).repeat_interleave(self.chains)
            length = _length(self.steps, k, self.seed)
            p = metric.momenta(
                streams.normal(of_data, k, "data"), streams.normal(shape, k, "image")
            )
            result = move(target, metric, point, p, streams.uniform(k, "accept"), size, length)
            point = result.point
            evaluations += length
            acceptance = result.acceptance.view(-1, self.chains).mean(1)
            if k < self.warmup:
                adapt.update(acceptance)
            else:
                kept.append(problem.crop(point.u))
                accepted += acceptance / n
                diverged += result.diverged.view(-1, self.chains).sum(1)
            trace.append(
                {
                    "acceptance": acceptance.tolist(),
                    "step": size.view(-1, self.chains)[:, 0].tolist(),
                    "log_prob": point.log_p.view(-1, self.chains).mean(1).tolist(),
                }
            )
            stage = "warm-up" if k < self.warmup else "sampling"
            problem.progress(
                k + 1, self.warmup + n, f"{stage}, acceptance {float(acceptance.mean()):.2f}"
            )
        return _result(
            problem, density, kept, self.chains, accepted, diverged, evaluations, trace, level
        )


def _target(problem: Problem, density, chains: int) -> Target:
    items = torch.arange(problem.batch, device=problem.y.device).repeat_interleave(chains)
    physics, y = problem.physics.select(items), problem.y[items]
    counts = None
    if type(problem.model) is PoissonNoise and problem.given is not None:
        given, operator = problem.given
        counts = poisson(operator.select(items), given[items], problem.model.gain)
    return Target(density, physics, y, problem.noise_level()[items], problem.crop, counts)


def _begin(target: Target, start: Tensor, apart: Tensor) -> Point:
    """Chains around ``start``; brighter and together where that has no likelihood (photons were
    counted where the image is not positive)."""
    point = target.at(start + apart)
    possible = torch.isfinite(point.log_p)
    if bool(possible.all()):
        return point
    return target.at(start.clamp_min(_DARK)).where(possible, point)


def _start(problem: Problem, prior) -> Tensor:
    """A reconstruction to start from: plug-and-play, or MAP without noise levels."""
    from ..map import MAP
    from ..pnp import PlugAndPlay

    quiet = dataclasses.replace(problem, progress=lambda *_: None)
    if noise_range(prior) is not None:
        return PlugAndPlay(views=1).search(quiet, prior).x
    return MAP().solve(quiet, prior).x


def _scale(density, prior, start: Tensor) -> tuple[float | None, Tensor]:
    """sigma0, or None for a density without noise levels; and the metric's scale per item (B,)."""
    if noise_range(prior) is None:
        return None, steepest_scale(density, start)
    level = float(density.c)
    return level, torch.full((len(start),), level).to(start)


def _length(steps: int, k: int, seed: int) -> int:
    """The number of leapfrog steps of transition k, the same for all chains."""
    generator = torch.Generator().manual_seed(1_000_003 * seed + k)
    u = 2 * float(torch.rand((), generator=generator)) - 1
    return max(1, round(steps * (1 + _JITTER * u)))


def _result(
    problem, density, kept, chains, accepted, diverged, evaluations, trace, level
) -> Reconstruction:
    by_chain = torch.stack(kept, 1).unflatten(0, (problem.batch, chains))  # (B, chains, n, ...)
    diagnostics = {
        "r_hat": torch.stack([r_hat(item) for item in by_chain]),
        "ess_bulk": torch.stack([effective_size(item) for item in by_chain]),
        "ess_tail": torch.stack([effective_size_of_tails(item) for item in by_chain]),
        "acceptance": accepted,
        "divergences": diverged,
        "sigma": level,
    }
    samples = by_chain.flatten(1, 2).transpose(0, 1)
    x = samples.mean(0)
    status = [_verdict(*row) for row in zip(
        diagnostics["r_hat"], diagnostics["ess_bulk"], accepted.tolist(), strict=True
    )]  # fmt: skip
    with torch.no_grad():
        padded = pad_to_multiple(x, multiple_of(density))
        log_prob = density.log_prob(padded)
    return Reconstruction(
        x=x,
        z=None,
        log_prob=log_prob,
        residual=problem.residual(x),
        converged=torch.tensor([s == "converged" for s in status]),
        status=status,
        evaluations=torch.full((problem.batch,), evaluations),
        method="posterior",
        trace=trace,
        std=samples.std(0),
        samples=samples,
        diagnostics=diagnostics,
    )


def _verdict(r: Tensor, size: Tensor, acceptance: float) -> str:
    """ "converged", or what speaks against it."""
    r, size = r.flatten(), size.flatten()
    if not bool(torch.isfinite(r).all()):
        return "not converged: some pixels never moved; lower the step or use more warm-up"
    most, all_of_them = float(r.quantile(0.99)), float(r.max())
    if most > _ALIKE or all_of_them > _ALIKE_ALL:
        return (
            f"not converged: the chains disagree (R-hat {most:.2f} for 99 % of the pixels, "
            f"{all_of_them:.2f} at most); raise warmup and draws"
        )
    if float(size.median()) < _ENOUGH:
        return f"not converged: only {float(size.median()):.0f} effective draws; raise draws"
    return "converged"
