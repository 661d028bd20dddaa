"""Latent-space reconstruction: min_z ||A G(z) - y||^2 + gamma ||z||.

Asim et al. 2020 (arXiv 1905.11672). With z0 = 0 and gamma = 0 the path of the optimiser from the
most likely latent is the regulariser. For generators whose latents are few (Bora et al. 2017, arXiv
1703.03208) it is the range of G, and the search is repeated from several random latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..catalog import Method
from ..errors import UsageError
from ..optim import adam, lbfgs
from ..options import LEVEL, SEEDS, array, choice, real, whole
from ..protocols import Density, Generator, multiple_of, noise_range
from ..shapes import wide
from .coverage import coverage
from .discrepancy import choose_gamma
from .levels import latent_level, priors_at
from .problem import Problem
from .reconstruction import Reconstruction
from .starts import RANDOM, latent_start
from .watch import Watch

_PENALTIES = {
    "norm": lambda z: (z.flatten(1).square().sum(1) + 1e-12).sqrt(),
    "square": lambda z: z.flatten(1).square().sum(1),
}

STEPS = {"lbfgs": 150, "adam": 500}
_NEXT_SEEDS = 100_003  # apart from one another, whatever the size of the batch


class Latent(Method):
    """The latent whose image explains y: min over z of ||A G(z) - y||^2 + gamma ||z||.

    The residual falls with the steps; log p and ||z|| tell how far the search has gone.
    """

    needs = "any generator with `decode`"
    latent_init = any_operator = True

    sigma: float | Sequence[float] | None = real(
        None, LEVEL, above=0, several=True, auto="0.01 to 0.04, the fewer data the higher"
    )
    gamma: float | str = real(
        0.0,
        'Weight of the penalty on z; "discrepancy" chooses it, item by item, so that the misfit is '
        "that of the noise.",
        low=0,
        words=("discrepancy",),
    )
    penalty: str = choice("norm", "On z: its norm, or the square of it.", ("norm", "square"))
    steps: int | None = whole(None, "Iterations.", auto="150 (adam: 500)")
    init: Tensor | None = array(None, "Latents (B, ...) or images (B, C, H, W) to begin with.")
    start: str = choice(
        "zero",
        'Where the search begins: at "zero", the most likely latent; at "random" ones, or on a '
        '"sphere"; at the latents of the "pseudo_inverse", or of an image corrected in the '
        '"null_space".',
        ("zero", "random", "sphere", "pseudo_inverse", "null_space"),
    )
    radius: float = real(1.0, "Scale of random starts.", low=0)
    restarts: int = whole(
        1, "Searches from so many random starts, of which the one with the smallest misfit counts."
    )
    optimizer: str = choice("lbfgs", "One line search per item, or Adam.", ("lbfgs", "adam"))
    lr: float = real(0.05, "First learning rate of Adam.", above=0)
    seed: int = whole(0, "Of random numbers.", *SEEDS)

    def solve(self, problem: Problem, prior: Generator) -> Reconstruction:
        if self.restarts > 1 and (self.init is not None or self.start not in RANDOM):
            raise UsageError(
                f"restarts={self.restarts} from one and the same latent find the same image: "
                f"take start={' or '.join(map(repr, RANDOM))}, without init"
            )
        sigma = self.sigma
        if sigma is None and noise_range(prior) is not None:
            cover = coverage(problem)
            sigma = latent_level(cover.ratio, cover.holes)
        priors = priors_at(prior, sigma)
        steps = STEPS[self.optimizer] if self.steps is None else self.steps
        watch = Watch(problem, steps * self.restarts)
        gamma = self.gamma if isinstance(self.gamma, str) else self.gamma / problem.scale**2
        options = {"gamma": gamma, "penalty": _PENALTIES[self.penalty], "lr": self.lr}
        options |= {"optimizer": self.optimizer, "steps": max(1, steps // len(priors))}

        def attempt(number: int) -> _Found:
            seed = self.seed + number * _NEXT_SEEDS
            z, shape = self.init, latent_shape(problem, priors[0])
            if z is None:
                z = latent_start(self.start, problem, priors[0], shape, seed, self.radius)
            search = _by_discrepancy if gamma == "discrepancy" else _search
            found = search(problem, priors[0], z, watch, **options)
            for density in priors[1:]:
                with torch.no_grad():
                    z = density.encode(found.full)
                found = search(problem, density, z, watch, **options)
            return found

        best = attempt(0)
        for number in range(1, self.restarts):
            best = _better(best, attempt(number))
        density = priors[-1]
        found = {"z": best.z, "converged": best.done, "status": best.status} | watch.record
        if isinstance(density, Density):
            with torch.no_grad():
                found["log_prob"] = density.log_prob(best.full)
        return Reconstruction.of(problem, problem.crop(best.full), "latent", **found)


def latent_guess(problem: Problem, density: Generator, steps: int, watch: Watch) -> Tensor:
    """The padded images after ``steps`` of L-BFGS in latent space from z = 0, gamma 0."""
    z = latent_start("zero", problem, density, latent_shape(problem, density))
    return _search(
        problem, density, z, watch, gamma=0, penalty=None, optimizer="lbfgs", lr=None, steps=steps
    ).full


@dataclass
class _Found:
    """Latents, their images (padded to what the prior needs), and how the search ended."""

    z: Tensor
    full: Tensor
    misfit: Tensor
    done: Tensor
    status: list[str]


def _search(
    problem, prior: Generator, z0, watch, *, gamma, penalty, optimizer, lr, steps
) -> _Found:
    watch.restart()

    def objective(z: Tensor, idx: Tensor) -> Tensor:
        misfit = problem.misfit(problem.crop(prior.decode(z)), idx)
        value = misfit + gamma * penalty(z) if gamma else misfit
        watch.saw(idx, value, misfit, z_norm=z.flatten(1).square().mean(1).sqrt())
        return value

    if optimizer == "lbfgs":
        result = lbfgs.minimize(objective, z0, max_iter=steps, history=20, callback=watch.step)
    else:
        result = adam.minimize(objective, z0, max_iter=steps, lr=lr, callback=watch.step)
    return _found(problem, prior, result.z, result.finished, result.status)


def _by_discrepancy(problem, prior: Generator, z0, watch, *, penalty, steps, **_) -> _Found:
    def decode(z: Tensor) -> Tensor:
        return problem.crop(prior.decode(z))

    chosen = choose_gamma(problem, decode, penalty, z0, steps=steps)
    watch.evaluations += chosen.evaluations
    watch.trace.append({"gamma": chosen.gamma.tolist()})
    status = [
        f"converged: gamma {g:.3g}" if ok else "failed: the noise level is not reached"
        for g, ok in zip(chosen.gamma.tolist(), chosen.reached.tolist(), strict=True)
    ]
    return _found(problem, prior, chosen.z, chosen.reached, status)


@torch.no_grad()
def _found(problem, prior: Generator, z, done, status) -> _Found:
    full = prior.decode(z)
    items = torch.arange(problem.batch, device=z.device)
    return _Found(z, full, problem.misfit(problem.crop(full), items), done, status)


def _better(a: _Found, b: _Found) -> _Found:
    """Item by item the one with the smaller misfit; NaN never wins."""
    take = (b.misfit < a.misfit) | a.misfit.isnan()

    def pick(u: Tensor, v: Tensor) -> Tensor:
        return torch.where(wide(take.to(u.device), u), v, u)

    tensors = ((a.z, b.z), (a.full, b.full), (a.misfit, b.misfit), (a.done, b.done))
    status = zip(a.status, b.status, take.tolist(), strict=True)
    return _Found(*(pick(u, v) for u, v in tensors), [t if new else s for s, t, new in status])


def latent_shape(problem: Problem, prior: Generator) -> tuple[int, ...]:
    """The shape of one latent: of a flow it has the size of the image, padded."""
    shape = tuple(prior.latent_shape)
    if shape == tuple(getattr(prior, "shape", ())):
        shape = problem.padded_shape(multiple_of(prior))
    return shape
