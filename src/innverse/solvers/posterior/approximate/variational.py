"""The posterior by a second flow before the prior's (Whang, Lindgren & Dimakis 2021).

    x = G(z), z = h(e), e ~ N(0, I)        KL(q || p(x | y)) = log p(y) - ELBO
    ELBO = E[log N(z) + log p(y | G(z)) - log q(z)],  log q(z) = log N(e) - log|det dh/de|

G is the prior, h a small flow of every item's own; the determinant of G cancels. q prefers a part of
the posterior to all of it. Its density is known, so importance weights say how far it is off.
"""

from __future__ import annotations

import dataclasses
import math
from statistics import median

import torch
from torch import Tensor, nn

from ....accelerate.constant import varying_parameters
from ....bijections import Chain, Checkerboard
from ....catalog import Method
from ....errors import UsageError
from ....flows.base import standard_normal_log_prob
from ....flows.padding import pad_to_multiple
from ....nets import ConvNet
from ....options import LEVEL, SEEDS, real, whole
from ....protocols import Encoder, Generator, multiple_of, noise_range
from ....seeding import seeded
from ...levels import priors_at
from ...map import MAP
from ...needs import check_density, check_noise
from ...pnp import PlugAndPlay
from ...problem import Problem
from ...reconstruction import Reconstruction
from ..randomness import Streams
from ..target import Target
from .side_by_side import side_by_side, summary, weighed

_FIRST_SCALE = 0.2  # of q in the latent space, where the prior has 1
_STEEP = 3.0  # times the median gradient: longer ones, of draws far out, are cut


class Variational(Method):
    """Approximate draws of p(x | y): a small flow before the prior, fitted to each item by its ELBO."""

    sigma: float | None = real(None, LEVEL, above=0, auto="0.02, or the nearest that it knows")
    draws: int = whole(100, "Draws of what was fitted.", 2)
    steps: int = whole(400, "Steps of Adam.")
    samples: int = whole(8, "Draws in each step.", 1, 4096)
    lr: float = real(0.02, "First learning rate; it falls to zero as a cosine.", above=0)
    layers: int = whole(4, "Couplings of the small flow; 0: independent normals.", 0, 100)
    hidden: int = whole(16, "Width of their networks.", 1, 4096)
    seed: int = whole(0, "Of random numbers.", *SEEDS)

    def solve(self, problem: Problem, prior) -> Reconstruction:
        check_density("variational", prior)
        check_noise("variational", problem)
        if not (isinstance(prior, Generator) and isinstance(prior, Encoder)):
            words = f"{type(prior).__name__} has not both encode and decode; choose a flow"
            raise UsageError(f"method 'variational' searches among latents: {words}")
        density = priors_at(prior, self.sigma)[0]
        quiet = dataclasses.replace(problem, progress=lambda *_: None)
        known = noise_range(prior) is not None
        x = PlugAndPlay(views=1).search(quiet, prior).x if known else MAP().solve(quiet, prior).x
        with torch.no_grad():
            z0 = density.encode(pad_to_multiple(x, multiple_of(prior)))
        fitted = [self._fit(problem, density, z0, i) for i in range(problem.batch)]
        draws = problem.crop(torch.stack([f.images for f in fitted], 1).flatten(0, 1))
        weights = [weighed(f.log_target, f.log_q) for f in fitted]
        return summary(
            problem, draws.unflatten(0, (self.draws, problem.batch)), "variational",
            "variational, by a second flow",
            evaluations=torch.full((problem.batch,), self.steps * self.samples),
            trace=[{"elbo": row} for row in zip(*(f.elbo for f in fitted), strict=True)],
            diagnostics={
                "sigma": float(density.c) if known else None,
                "elbo": torch.stack([(f.log_target - f.log_q).mean() for f in fitted]),
                "log_q": torch.stack([f.log_q for f in fitted], 1),
                "ess": torch.tensor([w.ess for w in weights]),
                "pareto_k": torch.tensor([w.pareto_k for w in weights]),
            },
        )  # fmt: skip

    def _fit(self, problem: Problem, density, z0: Tensor, i: int) -> _Fitted:
        """q of item i, and draws of it."""
        one = torch.tensor([i], device=z0.device)
        target = side_by_side(problem, density, one.expand(self.samples))
        with seeded(self.seed):
            q = _Second(z0[i], self.layers, self.hidden).to(z0)
        parameters = list(q.parameters())
        adam = torch.optim.Adam(parameters, self.lr)
        streams = Streams(problem.y[one], self.samples, self.seed)
        norms: list[float] = []
        elbo, whole = [], problem.batch * self.steps
        with torch.enable_grad():
            for k in range(self.steps):
                z, log_q = q(streams.normal(tuple(z0.shape[1:]), k, "fit"))
                bound = (_log_target(target, density, z) - log_q).mean()
                for p, g in zip(parameters, torch.autograd.grad(-bound, parameters), strict=True):
                    p.grad = g.nan_to_num(0.0, 0.0, 0.0)
                limit = _STEEP * median(norms[-50:]) if norms else math.inf
                norms.append(float(nn.utils.clip_grad_norm_(parameters, limit)))
                adam.param_groups[0]["lr"] = self.lr * _cosine(k / self.steps)
                adam.step()
                elbo.append(float(bound.detach()))
                problem.progress(i * self.steps + k + 1, whole, f"ELBO {elbo[-1]:.0f}")
        streams = Streams(problem.y[one], self.draws, self.seed)
        with torch.no_grad():
            z, log_q = q(streams.normal(tuple(z0.shape[1:]), 0, "draws"))
            target = side_by_side(problem, density, one.expand(self.draws))
            u = density.decode(z)
            log_target = standard_normal_log_prob(z) + target.log_likelihood(u)
        return _Fitted(u, log_target, log_q, elbo)


@dataclasses.dataclass
class _Fitted:
    """Draws of q (S, C, H, W); log p(z) p(y | z) and log q(z) of their latents (S,); the way there."""

    images: Tensor
    log_target: Tensor
    log_q: Tensor
    elbo: list[float]


class _Second(nn.Module):
    """h: e -> z, couplings and then a scale and a shift of every latent."""

    def __init__(self, z0: Tensor, layers: int, hidden: int):
        super().__init__()
        self.loc = nn.Parameter(z0.detach().clone())
        self.log_scale = nn.Parameter(torch.full_like(z0, math.log(_FIRST_SCALE)))
        n = len(z0)
        nets = (ConvNet(n, 2 * n, hidden) for _ in range(layers))
        self.couplings = Chain(*(Checkerboard(net, swap=k % 2 == 1) for k, net in enumerate(nets)))

    def forward(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """z and log q(z)."""
        with varying_parameters():
            v, log_det = self.couplings(e)
        log_q = standard_normal_log_prob(e) - log_det - self.log_scale.sum()
        return self.loc + self.log_scale.exp() * v, log_q


def _log_target(target: Target, density, z: Tensor) -> Tensor:
    """log p(z) p(y | G(z)) (S,), without the constant of the noise."""
    return standard_normal_log_prob(z) + target.log_likelihood(density.decode(z))


def _cosine(t: float) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * t)
