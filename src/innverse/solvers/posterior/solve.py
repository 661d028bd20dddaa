"""Posterior draws of images, with the diagnostics that say whether to believe them.

Hamiltonian Monte Carlo in image space and in the metric of the problem (see `metric`): warm-up from
a reconstruction, step sizes by dual averaging, all chains of all items in one batch.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...errors import UsageError
from ...flows.padding import pad_to_multiple
from ...metrics.chains import effective_size, effective_size_of_tails, r_hat
from ...protocols import Density, multiple_of, noise_range
from ..levels import priors_at
from ..problem import Problem
from ..reconstruction import Reconstruction
from .adapt import DualAveraging
from .hmc import move
from .metric import Metric, steepest_scale
from .randomness import Streams
from .target import Target

_FIRST_STEP = 0.1
_JITTER = 0.4  # of the number of leapfrog steps, so that no period of the target is met
_ALIKE, _ALIKE_ALL = 1.05, 1.1  # R-hat of 99 % of the pixels, and of all
_ENOUGH = 50  # effective draws of the median pixel


def solve_posterior(
    problem: Problem,
    prior,
    *,
    sigma: float | None = None,
    draws: int = 400,
    chains: int = 4,
    warmup: int = 100,
    steps: int = 15,
    init: Tensor | None = None,
    seed: int = 0,
) -> Reconstruction:
    """``draws`` of p(u | y) for each item, all chains together; ``x`` is their mean.

    Args:
        sigma: noise level sigma0 of the prior (0.02, or the nearest that it knows); what is
            sampled is an image plus noise of this level. It has no meaning for a density without
            noise levels.
        draws, chains: draws that are kept, and the chains that make them, each draws / chains.
        warmup: transitions before that, which adapt the step size and are not kept.
        steps: leapfrog steps of a transition on average; each costs a gradient.
        init: where all chains start (B, C, H, W), apart by noise; by default a reconstruction.
        seed: of all random numbers.
    """
    if not isinstance(prior, Density):
        raise UsageError(
            f"method 'posterior' needs a density: {type(prior).__name__} has no log_prob; "
            "choose a flow"
        )
    if problem.noise is None:
        raise UsageError(
            "method 'posterior' needs the noise level: pass noise=, or a physics that knows it"
        )
    density = priors_at(prior, sigma)[0]
    n = -(-draws // chains)
    target = _target(problem, density, chains)
    streams = Streams(problem.y, chains, seed)
    start = pad_to_multiple(_start(problem, prior) if init is None else init, multiple_of(prior))
    level, scale = _scale(density, prior, start)
    start, scale = start.repeat_interleave(chains, 0), scale.repeat_interleave(chains)
    metric = Metric(target, scale)
    shape, of_data = tuple(start.shape[1:]), tuple(problem.y.shape[1:])
    point = target.at(start + scale.view(-1, 1, 1, 1) * streams.normal(shape, 0, "start"))
    adapt = DualAveraging(torch.full((problem.batch,), _FIRST_STEP).to(problem.y))
    kept, trace = [], []
    accepted = torch.zeros(problem.batch, dtype=point.log_p.dtype, device=point.log_p.device)
    diverged = torch.zeros(problem.batch, dtype=torch.long, device=accepted.device)
    evaluations = 1
    for k in range(warmup + n):
        size = (adapt.step if k < warmup else adapt.final).repeat_interleave(chains)
        length = _length(steps, k, seed)
        p = metric.momenta(streams.normal(of_data, k, "data"), streams.normal(shape, k, "image"))
        result = move(target, metric, point, p, streams.uniform(k, "accept"), size, length)
        point = result.point
        evaluations += length
        acceptance = result.acceptance.view(-1, chains).mean(1)
        if k < warmup:
            adapt.update(acceptance)
        else:
            kept.append(problem.crop(point.u))
            accepted += acceptance / n
            diverged += result.diverged.view(-1, chains).sum(1)
        trace.append(
            {
                "acceptance": acceptance.tolist(),
                "step": size.view(-1, chains)[:, 0].tolist(),
                "log_prob": point.log_p.view(-1, chains).mean(1).tolist(),
            }
        )
        stage = "warm-up" if k < warmup else "sampling"
        problem.progress(k + 1, warmup + n, f"{stage}, acceptance {float(acceptance.mean()):.2f}")
    return _result(problem, density, kept, chains, accepted, diverged, evaluations, trace, level)


def _target(problem: Problem, density, chains: int) -> Target:
    items = torch.arange(problem.batch, device=problem.y.device).repeat_interleave(chains)
    return Target(
        density,
        problem.physics.select(items),
        problem.y[items],
        problem.noise_level()[items],
        problem.crop,
    )


def _start(problem: Problem, prior) -> Tensor:
    """A reconstruction to start from: plug-and-play, or MAP without noise levels."""
    from ..map import solve_map
    from ..pnp import solve_pnp

    quiet = dataclasses.replace(problem, progress=lambda *_: None)
    if noise_range(prior) is not None:
        return solve_pnp(quiet, prior).x
    return solve_map(quiet, prior).x


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
