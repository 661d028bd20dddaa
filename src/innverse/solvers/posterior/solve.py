"""Posterior draws of images, with the diagnostics that say whether to believe them.

Hamiltonian Monte Carlo in image space and in the metric of the problem (see `metric`): warm-up from
a reconstruction, down falling noise levels of the prior (see `start`), with steps and trajectories
that adapt to each item (see `adapt`); all chains of all items in one batch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from collections.abc import Generator as Generating
from typing import Any

import torch
from torch import Tensor

from ...catalog import Method
from ...clusters import active
from ...errors import UsageError
from ...fitting.interrupt import stop_requests
from ...flows.padding import pad_to_multiple
from ...metrics.chains import r_hat
from ...options import LEVEL, SEEDS, array, choice, folder, real, whole
from ...protocols import Encoder, Generator, is_of_codes, multiple_of, noise_range
from ..levels import priors_at
from ..needs import check_density, check_noise
from ..problem import Problem
from ..reconstruction import Reconstruction
from .adapt import ROUND, first_step
from .chains import Chains
from .checkpoint import Keeper
from .choose_metric import metric_for, scale_of
from .clean import CleanMoments, highest_level, through_noisy
from .conditioning import STEPS, condition, curvatures
from .hmc import Move
from .latent import LatentTarget
from .likelihood import likelihood_of
from .many import PAIR, by_workers
from .memory import check_memory
from .metric import Flat, Kinetic
from .randomness import Streams
from .sampled import Sampled
from .start import begin, levels, reconstruction
from .target import Target

_MUCH_BETTER = 2.0  # times a smaller condition number, for which latent space is taken
_SO_FAR = 64  # pixels, of all items, of which R-hat is told on the way
_MORE = 1.2  # times as many draws as before: all of them are ranked anew, which is not free


class PosteriorDraws(Method):
    """Draws of p(x | y) by Hamiltonian Monte Carlo: x is their mean, std their spread.

    All chains of all items run together. With a noise-conditional prior what is sampled is an image
    plus noise of the level sigma.
    """

    any_operator = True

    sigma: float | None = real(
        None,
        LEVEL,
        above=0,
        auto="0.02, or of the clean image what the noise allows, or the nearest that the prior knows",
    )
    draws: int = whole(
        400, "Draws that are kept, of all chains together; rounded up to equally many of each.", 8
    )
    chains: int = whole(4, "Chains that make them.", 2, 4096)
    warmup: int = whole(
        100,
        "Transitions before: half of them lead down from a high noise level, half adapt the steps.",
        0,
    )
    steps: int | None = whole(
        None, "Leapfrog steps of a transition, on average.", auto="adapted to each item"
    )
    thin: int = whole(1, "Of so many transitions one draw is kept.")
    of: str = choice(
        "noisy",
        "Whose mean and std are given: of what is sampled, the image plus noise of the level sigma; or "
        "of the clean image, which takes noise of at least sigma times the norm of the operator.",
        ("noisy", "clean"),
    )
    space: str = choice(
        "auto",
        "Where chains move: in images, in latents, or where the measured conditioning is better.",
        ("auto", "image", "latent"),
    )
    checkpoint: str | None = folder(
        None, "Folder from which an interrupted run goes on.", auto="none"
    )
    init: Tensor | None = array(None, "Latents (B, ...) or images (B, C, H, W) to begin with.")
    seed: int = whole(0, "Of random numbers.", *SEEDS)

    def solve(self, problem: Problem, prior) -> Reconstruction:
        check_density("posterior", prior, codes=True)
        check_noise("posterior", problem)
        if self.space == "image" and is_of_codes(prior):
            raise UsageError(
                f"space='image': {type(prior).__name__} has a density of its codes only"
            )
        if (self.space == "latent" or is_of_codes(prior)) and not _has_latents(prior):
            raise UsageError(f"space='latent': {type(prior).__name__} has no encode and decode")
        options = {name: getattr(self, name) for name in self.declared}
        if self.sigma is None and self.of == "clean":
            options["sigma"] = highest_level(problem, prior)
        if active() is not None and self.chains > PAIR:
            if self.init is None:  # once, for all
                options["init"] = reconstruction(problem, prior)
            left = by_workers(_sample, options, problem, prior)
        else:
            left = _sample(options, problem, prior)
        density = priors_at(prior, options["sigma"])[0]
        level = None if noise_range(prior) is None else float(density.c)
        return left.conclude(problem, prior, density, level)


class _Run:
    """One call: the targets at all levels, the chains, and what was measured on the way."""

    def __init__(self, options: PosteriorDraws, problem: Problem, prior):
        self.options, self.prior, self.chains = options, prior, options.chains
        self.density = priors_at(prior, options.sigma)[0]
        self.level = None if noise_range(prior) is None else float(self.density.c)
        clean = options.of == "clean" and self.level is not None
        self.problem = through_noisy(problem, self.level) if clean else problem
        self.moments = CleanMoments(self.level, self.chains) if clean else None
        self.each = -(-options.draws // self.chains)
        self.shape = problem.padded_shape(multiple_of(prior))
        y, pixels = problem.y, problem.shape[0] * problem.shape[1] * problem.shape[2]
        chains = problem.batch * self.chains
        check_memory(self.each * chains, pixels, chains, y)
        self.items = torch.arange(problem.batch, device=y.device).repeat_interleave(self.chains)
        self.streams = Streams(y, self.chains, options.seed)
        self.keeper = Keeper(options.checkpoint, self._name())
        self.annealed = options.warmup // 2
        self.ladder = levels(prior, self.level, self.annealed)
        # without levels, once trajectories have had the time to grow
        self.measured = self.annealed if len(set(self.ladder)) > 1 else options.warmup // 4
        self.in_latents = self.of_codes = is_of_codes(prior)
        self.notes: list[list[str]] = [[] for _ in range(problem.batch)]
        self.judged = 0, math.nan  # draws of each chain, and R-hat of some of their pixels
        likelihood = likelihood_of(self.problem, self.items)
        physics = self.problem.physics.select(self.items)
        like = y.new_zeros((chains, *self.shape))
        self._at = lambda density: Target(
            density,
            physics,
            self.problem.y[self.items],
            self.problem.deviation()[self.items],
            problem.crop,
            likelihood,
        )
        self._begin(like)

    def _name(self) -> dict[str, Any]:
        """What a checkpoint of this run is known by."""
        o = self.options
        names = ("seed", "chains", "warmup", "steps", "thin", "of", "space")
        return {name: getattr(o, name) for name in names} | {
            "sigma": self.level,
            "measurement": self.streams.names,
        }

    def _begin(self, like: Tensor) -> None:
        found = self.keeper.load()
        if found is not None:
            self.scale = found.tensors["scale"].to(like.device)
            self.curvature = found.tensors["curvature"].to(like.device)
            self.in_latents = found.state["in_latents"]
            self.start, point_u = (found.tensors[name].to(like) for name in ("start", "u"))
        else:
            start = self.options.init
            start = reconstruction(self.problem, self.prior) if start is None else start
            self.start = pad_to_multiple(start, multiple_of(self.prior)).to(like)
            scale = (
                like.new_ones(self.problem.batch)
                if self.of_codes
                else scale_of(self.density, self.level, self.start)
            )
            self.scale = scale.repeat_interleave(self.chains)
            self.curvature = like.new_full((self.problem.batch, 2), torch.nan)
        start = self.start[self.items]
        self._metric: Callable[[Target, Tensor], Kinetic] = lambda *_: Flat()
        if self.of_codes:
            with torch.no_grad():
                start = self.density.encode(start)
        else:
            self._metric = metric_for(self._for_metric(self._at(self.density)), like)
        k = 0 if found is None else found.step
        target, metric = self._rung(self._level(max(k - 1, 0)))
        if found is None:
            point = begin(target, metric, self.streams, start)
        else:
            point = target.at(point_u)
            known = found.tensors["log_p"].to(point.log_p)
            if not torch.allclose(point.log_p, known, rtol=1e-4, atol=1e-2):
                raise self.keeper.foreign("its prior, operator or noise differs")
        options = self.options
        self.state = Chains(
            point,
            self.chains,
            self.streams,
            options.seed,
            options.steps,
            (self.each, *self.problem.shape),
        )
        self.state.evaluations += 1
        if found is not None:
            self.state.restore(found)
            if self.moments is not None:
                self.moments.sums = found.tensors["moments"].to(like.device)
            if self.state.kept == self.each:
                for row in self.notes:
                    row.append(f"{self.keeper.folder} was finished: nothing was sampled again")
        self.target, self.metric = target, metric

    def _level(self, k: int) -> float | None:
        return self.ladder[k] if k < self.annealed else self.level

    def _rung(self, level: float | None) -> tuple[Target, Kinetic]:
        """The target and its metric where the prior has this level."""
        density, scale = self.density, self.scale
        if level is not None and level != self.level:
            density, scale = self.prior.at(level), torch.full_like(scale, level)
        target = self._at(density)
        if self.in_latents:
            return LatentTarget.of(target), Flat()
        return target, self._metric(self._for_metric(target), scale)

    def _for_metric(self, target: Target) -> Target:
        """With the derivative at the start (Gauss & Newton) for an operator that is not linear."""
        derivative = target.physics.at(self.problem.crop(self.start)[self.items])
        return Target(target.density, derivative, target.y, target.noise, target.crop)

    def sample(self) -> None:
        """All transitions that are left, with a checkpoint every now and then and when stopped."""
        options, state = self.options, self.state
        total = options.warmup + self.each * options.thin
        saved = self._saved()
        with _requests(self.keeper) as stopping:
            try:
                while state.k < total and state.kept < self.each:
                    result = self._transition()
                    saved = self._saved()
                    self.problem.progress(state.k, total, self._note(result))
                    if stopping:
                        raise KeyboardInterrupt
                    self.keeper.save_if_due(lambda saved=saved: saved)
            except KeyboardInterrupt:
                self.keeper.save(*saved)
                raise
        self.keeper.save(*saved)

    def _transition(self) -> Move:
        state, k, warmup = self.state, self.state.k, self.options.warmup
        if k and self._level(k) != self._level(k - 1):
            self.target, self.metric = self._rung(self._level(k))
            state.point = self.target.at(state.point.u)
        if k == self.measured:
            self._measure()
        result = state.transition(self.target, self.metric, learn=k < warmup)
        if k >= warmup and (k - warmup) % self.options.thin == self.options.thin - 1:
            state.keep(self.target)
            if self.moments is not None:
                self.moments.add(*self._in_images())
        return result

    def _in_images(self):
        """The target of noisy images, and where chains stand in it."""
        if not self.in_latents:
            return self.target, self.state.point
        target = self._at(self.density)
        with torch.no_grad():
            u = self.density.decode(self.state.point.u)
        return target, target.at(u)

    def _measure(self) -> None:
        """The conditioning, which says where chains move on."""
        state, space = self.state, self.options.space
        of_image = self.streams.normal(tuple(state.point.u.shape[1:]), 0, "Lanczos image")
        of_data = self.streams.normal(tuple(self.target.y.shape[1:]), 0, "Lanczos data")

        def measured(target: Target, metric: Kinetic, u: Tensor) -> Tensor:
            found = curvatures(target, metric, u, metric.momenta(of_data, of_image))
            state.evaluations = state.evaluations + 2 * STEPS
            return found.unflatten(0, (-1, self.chains)).mean(1)

        self.curvature = measured(self.target, self.metric, state.point.u)
        step, time = state.steps.final, state.lengths.final
        if self.of_codes:
            time = torch.full_like(time, ROUND)
            step = first_step(state.point.u) * self.curvature[:, 1].clamp_min(1.0).rsqrt()
        elif space != "image" and _has_latents(self.density):
            with torch.no_grad():
                z = self.density.encode(state.point.u)
            target, metric = LatentTarget.of(self.target), Flat()
            curvature = measured(target, metric, z)
            round_ = torch.full_like(time, ROUND)  # what the prior alone would take there
            better = _MUCH_BETTER * condition(curvature, round_) < condition(self.curvature, time)
            if space == "latent" or bool(better.all()):
                self.in_latents, self.curvature = True, curvature
                self.target, self.metric, state.point = target, metric, target.at(z)
                step = first_step(z) * curvature[:, 1].clamp_min(1.0).rsqrt()
                time = round_
            for row, one in zip(self.notes, better.tolist(), strict=True):
                if one and not self.in_latents:
                    row.append("latent space would be better conditioned: try space='latent'")
        if self.in_latents or len(set(self.ladder)) > 1:
            state.adapt(step, time)

    def _note(self, result: Move) -> str:
        state = self.state
        words = ["warm-up" if state.k <= self.options.warmup else "sampling"]
        words.append(f"acceptance {float(result.acceptance.mean()):.2f}")
        if state.kept >= max(4, _MORE * self.judged[0]):
            every = state.draws[:, :, : state.kept].flatten(3).movedim(0, 2).flatten(2)
            some = every[..., :: max(1, every.shape[-1] // _SO_FAR)]
            self.judged = state.kept, float(r_hat(some).nan_to_num(1).max())
        if self.judged[0]:
            words.append(f"R-hat {self.judged[1]:.2f}")
        return ", ".join(words)

    def _saved(self):
        tensors, state = self.state.saved()
        tensors |= {
            "start": self.start,
            "scale": self.scale,
            "curvature": self.curvature.nan_to_num(0.0),
        }
        if self.moments is not None:
            tensors["moments"] = self.moments.sums
        return self.state.k, tensors, state | {"in_latents": self.in_latents}

    def left(self) -> Sampled:
        """What the chains have left."""
        state = self.state
        accepted, diverged = (
            v.unflatten(0, (-1, self.chains)) for v in (state.accepted, state.diverged)
        )
        return Sampled(
            draws=state.draws,
            log_p=state.log_p,
            accepted=accepted,
            diverged=diverged,
            transitions=state.sampled,
            evaluations=state.evaluations,
            curvature=self.curvature,
            step=state.steps.final,
            time=state.time,
            in_latents=self.in_latents,
            metric=type(self.metric).__name__,
            moments=None if self.moments is None else self.moments.sums,
            trace=state.trace,
            notes=self.notes,
        )


def _sample(options: Mapping[str, Any], problem: Problem, prior) -> Sampled:
    run = _Run(PosteriorDraws(**options), problem, prior)
    run.sample()
    return run.left()


def _has_latents(prior) -> bool:
    return isinstance(prior, Generator) and isinstance(prior, Encoder)


@contextlib.contextmanager
def _requests(keeper: Keeper) -> Generating[list[int]]:
    """Ctrl-C ends the transition first, where there is something to save."""
    if keeper.folder is None:
        yield []
    else:
        with stop_requests() as requests:
            yield requests
