"""Particles on their way from the prior to the posterior, in several runs side by side."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ....errors import InputError
from ..adapt import TARGET
from ..chains import transition
from ..choose_metric import metric_for
from ..randomness import Streams
from ..target import Target
from .setting import length

_FIRST = 0.5  # step size
_MOVED = 0.1  # correlation with where they were, below which particles have moved


class Particles:
    """Draws of p(u) p(y | A u)^t, of ``runs`` runs that do not know of each other.

    Attributes:
        u: images (runs * n, C, H, W).
        t, temperatures: the power of the likelihood now, and all that were.
        log_z: log of the normalising constant of each run (runs,), in float64.
        variance: that of ``log_z``, were all particles independent.
        correlations: at each temperature, of the particles with where they were before they moved:
            of their likelihoods, or of their pixels if that is larger.
    """

    def __init__(self, target: Target, scale: Tensor, streams: Streams, u: Tensor, runs: int):
        self.target, self.scale, self.streams, self.u, self.runs = target, scale, streams, u, runs
        self.n = len(u) // runs
        self.t, self.temperatures = 0.0, []
        self.log_z, self.variance = torch.zeros(runs, dtype=torch.float64), 0.0
        self.likelihood = self._likelihood(u)
        self.correlations: list[float] = []
        self.acceptance, self.diverged, self.evaluations = 0.0, 0, 0
        self._step, self._moves, self._metric = _FIRST, 0, metric_for(target, u)

    def weigh(self, keep: float) -> None:
        """Raise the temperature and draw the particles of each run by their weights."""
        log_p = self.likelihood.view(self.runs, self.n)
        dt = rise(log_p, 1 - self.t, keep)
        self.t = min(1.0, self.t + dt)
        self.temperatures.append(self.t)
        log_w = dt * log_p
        self.log_z += log_w.logsumexp(1) - math.log(self.n)
        weights = log_w.softmax(1)
        self.variance += float(weights.square().sum(1).mean()) - 1 / self.n
        chosen = systematic(weights, self._offsets())
        self._take((chosen + self.n * torch.arange(self.runs)[:, None]).flatten())

    def mix(self) -> None:
        """Draw the particles of all runs together, each run by its estimate of the evidence."""
        weights = self.log_z.softmax(0).repeat_interleave(self.n)[None] / self.n
        self._take(systematic(weights, self._offsets()[:1])[0])

    def move(self, most: int, steps: int, seed: int) -> None:
        """Transitions at the temperature, ``most`` of them, until the particles have moved."""
        target = tempered(self.target, self.t)
        metric, point = self._metric(target, self.scale), target.at(self.u)
        self.evaluations += 1
        before, likelihood = self.u, self.likelihood
        for _ in range(most):
            k, self._moves = self._moves, self._moves + 1
            n = length(steps, k, seed)
            step = torch.full_like(self.scale, self._step)
            result = transition(target, metric, point, self.streams, k, step, n)
            point, self.acceptance = result.point, float(result.acceptance.mean())
            self._step *= math.exp(self.acceptance - TARGET)  # of hundreds: hardly noise
            self.diverged += int(result.diverged.sum())
            self.evaluations += n
            self.u, self.likelihood = point.u, self._likelihood(point.u)
            left = max(correlation(likelihood, self.likelihood), correlation(before, self.u))
            if left < _MOVED:
                break
        self.correlations.append(left)

    def _likelihood(self, u: Tensor) -> Tensor:
        with torch.no_grad():
            log_p = self.target.log_likelihood(u).double().cpu()
        return torch.where(log_p.isnan(), -torch.inf, log_p)  # of images that are not finite

    def _take(self, rows: Tensor) -> None:
        self.u, self.likelihood = self.u[rows.to(self.u.device)], self.likelihood[rows]

    def _offsets(self) -> Tensor:
        """(runs,) in [0, 1)."""
        return self.streams.uniform(self._moves, "resample")[:: self.n]


def correlation(a: Tensor, b: Tensor) -> float:
    """Of two tensors (N, ...) over the particles, all their numbers together."""
    a, b = a - a.mean(0), b - b.mean(0)
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-30))


def tempered(target: Target, t: float) -> Target:
    """The target with the likelihood to the power t > 0."""
    noise = target.noise / math.sqrt(t)
    return Target(
        target.density, target.physics, target.y, noise, target.crop,
        lambda image: t * target.likelihood(image),
    )  # fmt: skip


def rise(log_likelihood: Tensor, most: float, keep: float) -> float:
    """The rise of t, up to ``most``, whose weights leave a share ``keep`` of the particles effective.

    ``log_likelihood`` (runs, n); the share is (sum w)^2 / (n sum w^2), on average over the runs, of
    the particles with any likelihood.

    Raises:
        InputError: a run without a particle that has any.
    """
    n = log_likelihood.shape[1]
    alive = log_likelihood.isfinite().sum(1)
    if not bool((alive > 0).all()):
        raise InputError(
            "no draw of the prior gives these measurements any probability: raise draws, or lower "
            "runs"
        )

    def effective(dt: float) -> float:
        return float((1 / (dt * log_likelihood).softmax(1).square().sum(1)).mean()) / n

    goal = keep * float(alive.double().mean()) / n
    if effective(most) >= goal:
        return most
    low, high = 0.0, most
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle) >= goal else (low, middle)
    return high


def systematic(weights: Tensor, offset: Tensor) -> Tensor:
    """Indices (runs, n) drawn by ``weights`` (runs, n), one uniform ``offset`` (runs,) for each run.

    Sorted: the copies of a particle stand side by side.
    """
    n = weights.shape[1]
    places = (torch.arange(n) + offset.cpu().double()[:, None]) / n
    upto = weights.cumsum(1)
    return torch.searchsorted(upto / upto[:, -1:], places).clamp_max(n - 1)
