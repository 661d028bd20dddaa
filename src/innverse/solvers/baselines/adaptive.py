"""Image-adaptive generators: after the latent search the generator itself is fitted to the image.

Hussein, Tirer & Giryes 2020 (IAGAN, arXiv 1906.05284). A generator with few latents cannot represent
most images exactly; fine-tuning a copy of its weights on one measurement, together with the latent,
removes that representation error.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...errors import UsageError
from ...options import real, whole
from ...protocols import Generator
from ..discrepancy import noise_energy
from ..latent import STEPS, Latent
from ..levels import priors_at
from ..problem import Problem
from ..reconstruction import Reconstruction


class Adaptive(Latent):
    """ "latent", then the generator's own weights too, on a copy for each image (Hussein et al. 2020).

    An item stops once its misfit is that of the noise, if the noise level is known: beyond it the
    weights would learn the noise.
    """

    needs = "any generator that is a module"

    tune_steps: int = whole(500, "Steps of Adam on latent and weights.", 0)
    tune_lr: float = real(1e-4, "Learning rate of the weights.", above=0)
    latent_lr: float = real(1e-3, "Learning rate of the latent beside them.", above=0)

    def solve(self, problem: Problem, prior: Generator) -> Reconstruction:
        if not isinstance(prior, nn.Module):
            raise UsageError("method 'adaptive' needs a generator that is a torch module")
        searched = self.steps or STEPS[self.optimizer]
        whole = searched + problem.batch * self.tune_steps  # steps, for the progress

        def searching(done: float, total: float, note: str) -> None:
            problem.progress(searched * done / total, whole, note)

        found = super().solve(replace(problem, progress=searching), prior)
        noisy = problem.noise is not None and bool((torch.as_tensor(problem.noise) > 0).all())
        floor = noise_energy(problem).tolist() if noisy else [0.0] * problem.batch
        for i in range(problem.batch):

            def tuning(done: int, i: int = i) -> None:
                problem.progress(
                    searched + i * self.tune_steps + done, whole, f"tuning, item {i + 1}"
                )

            tuned = _tune(
                problem, prior, self.sigma, found.latents[i : i + 1], i,
                self.tune_steps, self.tune_lr, self.latent_lr, floor[i], tuning,
            )  # fmt: skip
            found.evaluations[i] += len(tuned.misfits)
            found.trace.append({"item": i, "misfits": tuned.misfits})
            if math.isfinite(tuned.misfits[-1]):
                found.status[i] += ", weights tuned"
            else:
                found.status[i] = "failed: tuning the weights met NaN or Inf"
                found.converged[i] = False
            if tuned.x is not None and tuned.z is not None:
                found.x[i : i + 1], found.latents[i : i + 1] = tuned.x, tuned.z
            tuning(self.tune_steps)
        found.residual = problem.residual(found.x)
        found.method, found.log_prob = "adaptive", None
        return found


@dataclass
class _Tuned:
    """The image and latent with the smallest misfit, and the misfits on the way."""

    x: Tensor | None
    z: Tensor | None
    misfits: list[float]


def _tune(problem, prior, sigma, z, item, steps, tune_lr, latent_lr, floor, report) -> _Tuned:
    generator = copy.deepcopy(prior).eval()
    density = priors_at(generator, sigma)[-1]
    weights = [p.requires_grad_() for p in generator.parameters()]
    z = z.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam(
        [{"params": weights, "lr": tune_lr}, {"params": [z], "lr": latent_lr}]
    )
    idx = torch.tensor([item], device=z.device)
    best, misfits = _Tuned(None, None, []), []
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.enable_grad():
            x = problem.crop(density.decode(z))
            misfit = problem.misfit(x, idx).sum()
            misfit.backward()
        value = float(misfit.detach())
        if not misfits or value < min(misfits):
            best = _Tuned(x.detach(), z.detach().clone(), misfits)
        misfits.append(value)
        report(len(misfits))
        if value <= floor or not math.isfinite(value):
            break
        optimizer.step()
    return best if math.isfinite(misfits[0]) else _Tuned(None, None, misfits)
