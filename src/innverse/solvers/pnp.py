"""Plug and play: the flow's own denoiser, from coarse to fine, alternating with the data.

Half-quadratic splitting (Zhang et al. 2021, arXiv 2008.13751) with an exact-density denoiser:

    x_k = argmin_x ||A x - y||^2 / (2 s^2) + strength ||x - v||^2 / (2 sigma_k^2)
    v   = x_k + sigma_k^2 grad log p(x_k; sigma_k)

while sigma_k falls from large to the level of the noise. Before each denoising x_k gets some of the
noise that the denoiser was trained to see (as in Zhu et al. 2023, arXiv 2305.08995): without it, the
clean edge of a hole looks like a feature of the picture, and stays. Its share falls to 0 towards the
end, and what is denoised is x_k + momentum (x_k - x_{k-1}), which moves no fixed point: in the mean
over tasks 30 steps do what 45 of the plain loop do (benchmarks/plug_and_play.py). Less noise on the
way, or more momentum, needs fewer steps for grey pictures and leaves text in those in colour.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..catalog import Method
from ..errors import UsageError
from ..options import LEVEL, array, real, whole
from ..physics.noise import randn
from ..protocols import noise_range
from ..shapes import wide
from .judge import noise_ratio
from .posterior_mean import ended, knows_posterior_mean, solve_denoising
from .problem import NOISELESS, Problem
from .reconstruction import Reconstruction
from .tiling import code_untiled, denoise_tiled

FIRST_SIGMA = 0.3
MOMENTUM = 0.4
# Of conjugate gradients, at the first and the last step: noise that is added next hides more than that.
ROUGH, FINE = 1e-4, 1e-6


class PlugAndPlay(Method):
    """Data step and the flow's denoiser in turn, from coarse to fine; plain denoising is the posterior
    mean in one step.

    Each step uses another of the denoiser's views, so that the squeeze leaves no grid.
    """

    needs = "a noise-conditional flow"

    sigma: float | None = real(None, LEVEL, above=0, auto="the level of the noise")
    steps: int = whole(30, "Iterations.")
    strength: float = real(0.25, "Weight of the prior against the data.", above=0)
    churn: float = real(
        0.5,
        "Share of sigma that is added as noise before the first denoising; it falls to 0 at the last. "
        "0 is the deterministic scheme, which leaves remains of what was hidden.",
        low=0,
        high=10,
    )
    views: int = whole(4, "Views that the last denoising averages.", 1, 16)
    consistency: float = real(
        0.0,
        "Weight of the data against the denoised picture when both are averaged in the end. What comes "
        "out agrees more with the data, and has more of their noise.",
        low=0,
        high=1e6,
    )
    init: Tensor | None = array(None, "Latents (B, ...) or images (B, C, H, W) to begin with.")
    tile: int | str | None = whole(
        "auto", "Side of the tiles for large pictures, at least 96 pixels.", 96, 2**30,
        words=("auto", "none"),
    )  # fmt: skip

    def solve(self, problem: Problem, prior) -> Reconstruction:
        learned = getattr(prior, "noise", None)
        if self._is_usual and learned and knows_posterior_mean(problem, prior):
            return solve_denoising(problem, prior, views=self.views, tile=self.tile)
        return self.search(problem, prior)

    @property
    def _is_usual(self) -> bool:
        """Whether nothing asks for the iteration where one step would do."""
        usual = all(
            getattr(self, name) == self.declared[name].default
            for name in ("strength", "churn", "consistency")
        )
        return self.sigma is None and self.init is None and usual

    def search(self, problem: Problem, prior) -> Reconstruction:
        """The iteration, for plain denoising too."""
        if noise_range(prior) is None:
            raise UsageError(
                "method 'pnp' needs a noise-conditional prior (natural-gray, natural-color, or one "
                "trained with noise = [low, high]): use method 'map' or 'latent' with this one"
            )
        low, high = prior.noise_range
        noise = problem.noise_level()
        last = noise.clamp(low, high) if self.sigma is None else torch.full_like(noise, self.sigma)
        first = last.clamp_min(min(FIRST_SIGMA, high))
        x = self.init
        if x is None:
            x = problem.first_guess(first * self.strength**-0.5, ROUGH if self.churn else None)
        v = before = x
        aty = problem.physics.A_adjoint(problem.y)
        trace: list[dict[str, Tensor]] = []
        ways = [1.0 if self.steps == 1 else k / (self.steps - 1) for k in range(self.steps)]
        schedule = [first * (last / first) ** t for t in ways]
        highest = torch.stack(schedule).amax(1).tolist()
        generator = torch.Generator(x.device).manual_seed(0)
        alive = torch.ones(problem.batch, dtype=torch.bool, device=x.device)
        for k, level in enumerate(schedule):
            if k or self.init is not None:  # the first guess has met the data already
                with torch.no_grad():
                    rho = self.strength * (noise / level).square()
                    tol = ROUGH * (FINE / ROUGH) ** ways[k] if self.churn else None
                    x = _nearest(problem, aty, v, rho, tol=tol)
            seen, before = x + MOMENTUM * (x - before) if k else x, x
            final = k == self.steps - 1
            if self.churn and not final:
                # one draw for all items: what an item gets does not depend on those beside it
                noise_k = randn(x[:1].shape, dtype=x.dtype, device=x.device, generator=generator)
                seen = seen + wide(self.churn * (1 - ways[k] ** 4) * level, x) * noise_k
            views = range(self.views) if final else (k % 8,)
            # images live on [0, 1]; a denoiser far from what it was trained on may leave it for good

            def report(done: int, pieces: int, k: int = k) -> None:
                # within a step only where it has pieces, of which the last step's have several views
                weight = self.views if pieces > 1 else 1
                before = k * pieces + done * (weight if k == self.steps - 1 else 1)
                whole = (self.steps - 1 + weight) * pieces
                problem.progress(before, whole, f"sigma {highest[k]:.3f}")

            new = denoise_tiled(prior, seen, level, views, self.tile, report).clamp(0, 1)
            alive &= torch.isfinite(new).flatten(1).all(1)
            new = torch.where(wide(alive, v), new, v)  # an item that fails stops where it was
            change = (new - v).flatten(1).norm(dim=1) / new.flatten(1).norm(dim=1).clamp_min(1e-12)
            v = new
            trace.append({"sigma": level, "change": change, "residual": problem.residual(v)})
        if self.consistency:
            with torch.no_grad():
                v = _nearest(problem, aty, v, torch.full_like(noise, 1 / self.consistency))
        v = _agree_with_data(problem, v, noise, level, self.strength)
        v = _as_near_as_the_noise(problem, v, noise, level, self.strength)
        calm = change < 0.05
        z, log_prob = code_untiled(prior, v, level, self.tile)
        found = {"z": z, "log_prob": log_prob, "converged": alive & calm}
        # read at the end: a GPU would be waited for at every step
        found["trace"] = [{name: t.tolist() for name, t in row.items()} for row in trace]
        found["status"] = list(map(ended, alive.tolist(), calm.tolist()))
        found["evaluations"] = torch.full((problem.batch,), self.steps - 1 + self.views)
        return Reconstruction.of(problem, v, "pnp", **found)


def _nearest(problem: Problem, aty: Tensor, v: Tensor, rho: Tensor, first=None, tol=None) -> Tensor:
    """argmin_x ||A x - y||^2 + rho ||x - v||^2, with rho (B,); the search begins at ``first``, or v."""
    start = v if first is None else first
    return problem.physics.solve_normal(aty + wide(rho, v) * v, rho, x0=start, tol=tol)


@torch.no_grad()
def _agree_with_data(problem: Problem, v: Tensor, noise: Tensor, level: Tensor, strength: float):
    """Where there is no noise, the data have the last word."""
    exact = wide(noise <= NOISELESS, v)
    if not bool(exact.any()):
        return v
    aty = problem.physics.A_adjoint(problem.y)
    return torch.where(exact, _nearest(problem, aty, v, strength * (noise / level).square()), v)


@torch.no_grad()
def _as_near_as_the_noise(problem: Problem, v: Tensor, noise, level, strength: float) -> Tensor:
    """What the last denoising took away of the data is given back, where it was more than noise.

    Of the data steps with a falling weight of v the first that the noise explains is taken (the
    discrepancy principle): an item whose residual is that of the noise stays as it is.
    """
    ratio = noise_ratio(problem, v)
    if ratio is None or not bool((ratio > 1).any()):
        return v
    aty, best = problem.physics.A_adjoint(problem.y), v
    for factor in (100.0, 10.0, 1.0, 0.1):
        x = _nearest(problem, aty, v, factor * strength * (noise / level).square(), best)
        take = (ratio > 1) & x.isfinite().flatten(1).all(1)
        best = torch.where(wide(take, x), x, best)
        ratio = noise_ratio(problem, best)
        if ratio is None or not bool((ratio > 1).any()):
            break
    return best
