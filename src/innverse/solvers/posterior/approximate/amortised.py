"""Posteriors of images that a conditional flow has learned: q(x | y) in one pass, exactly evaluated.

Trained by ``[condition]`` of `innverse train` on pictures and measurements of them (Ardizzone et al.
2019), q minimises E_y KL(p(x | y) || q(x | y)). Against a prior whose exact posterior is known, the
draws have importance weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....catalog import OPERATORS, Method
from ....errors import ShapeError, UsageError
from ....metrics.importance import Importance
from ....options import SEEDS, anything, whole
from ....physics.as_images import as_images
from ....protocols import has_density, multiple_of
from ....showing.shown import Shown
from ...coverage import as_given
from ...levels import priors_at
from ...measurement import operator_for
from ...noise_level import has_one_level
from ...problem import Problem
from ...reconstruction import Reconstruction
from ..randomness import Streams
from .side_by_side import repeated, side_by_side, summary, weighed

_SLACK = 1.05  # of the noise levels of training


class AmortisedPosterior(Shown):
    """q(x | y) of a flow that was trained with ``[condition]``, for measurements by one operator.

    Args:
        model: such a flow, its ``measurement`` says what it was trained for.
        physics: the operator, as for `innverse.solve`.
        noise: standard deviation of the noise on the scale of y, one number or one of each item (B,);
            by default what the operator says.

    Raises:
        UsageError: a model that answers no measurements, or others; a noise level that it has not
            seen.

    Example:
        >>> model = innverse.flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=4, condition=3)
        >>> told = {"physics": "inpainting", "options": {}, "noise": [0.05, 0.05], "sigma": 0.02}
        >>> model.measurement = told  # innverse.train writes it
        >>> physics = innverse.physics.Inpainting.random((1, 8, 8), keep=0.5, noise=0.05)
        >>> y = physics(torch.rand(2, 1, 8, 8))
        >>> posterior = AmortisedPosterior(model, physics)
        >>> draws = posterior.sample(5, y)
        >>> draws.shape, posterior.log_prob(draws, y).shape
        (torch.Size([5, 2, 1, 8, 8]), torch.Size([5, 2]))
    """

    def __init__(self, model, physics, noise: float | Tensor | None = None):
        told = getattr(model, "measurement", None)
        if told is None:
            raise UsageError(
                "method 'amortised' needs a model that was trained to answer measurements, with "
                "[condition] in its settings; 'posterior' takes any density"
            )
        self.told: dict[str, Any] = told
        self.model, self.physics = model, operator_for(physics, None, None, None)
        self.noise = self._known(self.physics.sigma if noise is None else noise)
        trained, own = self.told["physics"], type(self.physics)
        named = {kind.operator: name for name, kind in OPERATORS.items()}
        if named.get(own, trained) != trained:
            raise UsageError(f"this model was trained for {trained}, and A is {own.__name__}")

    def _card(self):
        from ....showing.posterior import of_images

        return of_images(self)

    def sample(self, n: int, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``n`` draws of each item, (n, B, C, H, W), of measurements y (B, ...)."""
        c = self.condition(y)
        c = c.repeat(n, 1, 1, 1)
        size = (c.shape[-2], c.shape[-1])
        x = self.model.sample(len(c), c, size=size, generator=generator)
        return x.unflatten(0, (n, len(y)))

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        """log q(x | y) in nats, of images (B, C, H, W) or draws (S, B, C, H, W): (B,) or (S, B)."""
        c = self.condition(y)
        if x.dim() == 5:
            flat = c.expand(len(x), *c.shape).flatten(0, 1)
            return self.model.log_prob(x.flatten(0, 1), flat).view(x.shape[:2])
        return self.model.log_prob(x, c)

    def condition(self, y: Tensor) -> Tensor:
        """What the model is told of y (B, ...): see `innverse.physics.as_images`."""
        if y.dim() < 2:
            raise ShapeError(f"y holds measurements (B, ...), got {tuple(y.shape)}")
        noise = torch.as_tensor(self.noise).to(y.real).expand(len(y))
        return as_images(y, self.physics, noise)

    def _known(self, noise) -> float | Tensor:
        low, high = self.told["noise"]
        levels = None if noise is None else torch.as_tensor(noise)
        if levels is None or levels.dim() > 1:
            raise UsageError(
                "method 'amortised' needs one noise level, or one of each item: pass noise="
            )
        if not bool(((levels >= low / _SLACK) & (levels <= high * _SLACK)).all()):
            span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            raise UsageError(
                f"this model was trained for noise of {span}, and y has {float(levels.max()):.3g}: "
                "train it for that, or use method 'posterior'"
            )
        return noise


class Amortised(Method):
    """Draws of p(x | y) as a conditional flow has learned them, in milliseconds: its own, or weighed
    against the exact posterior of a prior."""

    needs = "a flow trained with `[condition]`"

    draws: int = whole(100, "Draws.", 2)
    against: Any = anything(
        None,
        "Prior, by name or folder, whose exact posterior the draws are weighed against.",
        auto="none",
    )
    seed: int = whole(0, "Of random numbers.", *SEEDS)

    def solve(self, problem: Problem, prior) -> Reconstruction:
        exact = self._exact()
        y, physics = as_given(problem)
        level = problem.deviation() * problem.scale if has_one_level(problem) else None
        posterior = AmortisedPosterior(prior, physics, level)
        shape = (prior.shape[0], *problem.padded_shape(multiple_of(prior))[1:])
        z = Streams(problem.y, self.draws, self.seed).normal(shape, 0, "draws")
        items = repeated(problem, self.draws)
        with torch.no_grad():
            c = posterior.condition(y)[items]
            u = prior.decode(z, c, size=problem.shape[1:])
            log_q = prior.log_prob(u, c).view(problem.batch, -1)
        problem.progress(1, 1, f"{self.draws} draws")
        u = u.unflatten(0, (problem.batch, self.draws))
        told = {"sigma": posterior.told["sigma"], "log_q": log_q.mT}
        if exact is None:
            return summary(problem, u.transpose(0, 1), "amortised", _HOW, diagnostics=told)
        weights = self._weights(problem, exact, u, log_q, told["sigma"])
        told["ess"] = torch.tensor([w.ess for w in weights])
        told["pareto_k"] = torch.tensor([w.pareto_k for w in weights])
        lots = Streams(problem.y, self.draws, self.seed).uniform(0, "resample").view_as(log_q)
        x, std, draws = (
            torch.stack(part) for part in zip(*map(_corrected, u, weights, lots), strict=True)
        )
        return summary(
            problem, draws.transpose(0, 1), "amortised", _HOW, x=x, std=std, diagnostics=told,
            converged=torch.tensor([w.trustworthy for w in weights]),
            status=[_status(w) for w in weights],
        )  # fmt: skip

    def _exact(self) -> Any:
        """The prior to go by, or None."""
        prior = self.against
        if isinstance(prior, str):
            from ....zoo import load

            prior = load(prior)
        if prior is not None and not has_density(prior):
            raise UsageError(f"against={prior!r}: give a density of images, its name or its folder")
        return prior

    def _weights(self, problem, prior, u: Tensor, log_q: Tensor, sigma: float) -> list[Importance]:
        """Of draws u (B, S, C, H, W), against p(u; sigma) p(y | u)."""
        if problem.padded_shape(multiple_of(prior)) != problem.shape:
            raise UsageError(
                f"against: sides of the images must divide by {multiple_of(prior)} for this prior"
            )
        density = priors_at(prior, sigma)[0]
        target = side_by_side(problem, density, repeated(problem, self.draws))
        with torch.no_grad():
            flat = u.flatten(0, 1)
            log_target = (density.log_prob(flat) + target.log_likelihood(flat)).view_as(log_q)
        return [weighed(*row) for row in zip(log_target, log_q, strict=True)]


_HOW = "amortised, by a conditional flow"


def _corrected(u: Tensor, importance: Importance, lots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and draws of one item (S, C, H, W) by weights that can be trusted;
    others leave them as they were. ``lots`` (S,) in [0, 1) choose among the draws."""
    if not importance.trustworthy:
        return u.mean(0), u.std(0), u
    weights = importance.weights.to(u)
    mean = torch.tensordot(weights, u, 1)
    std = torch.tensordot(weights, (u - mean).square(), 1).sqrt()
    return mean, std, u[torch.searchsorted(weights.cumsum(0), lots).clamp_max(len(u) - 1)]


def _status(importance: Importance) -> str:
    if importance.trustworthy:
        return "converged: corrected by importance weights"
    return (
        f"not converged: against the prior only {importance.ess:.1f} of {len(importance.weights)} "
        f"draws count (Pareto k {importance.pareto_k:.2f}), so they are left as they were: begin "
        "method 'posterior' with one of them (init=)"
    )
