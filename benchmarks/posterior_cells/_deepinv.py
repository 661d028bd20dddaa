"""deepinv's samplers with our prior: what they want to be given, and their draws chain by chain."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable

import torch
from torch import Tensor, nn

STAGES = 10  # inner steps of SK-ROCK, its default
ETA = 0.05  # its damping, likewise
BURN_IN = 0.3  # of the evaluations of the others


def available() -> bool:
    return importlib.util.find_spec("deepinv") is not None


def load():
    """deepinv. What it imports of torchvision, which has no build beside a torch for CPUs alone, serves
    data sets and plots, and is replaced by nothing."""
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_NoTorchvision())
    import deepinv

    return deepinv


class _NoTorchvision:
    """Any module of torchvision, with any name in it."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Anything(spec.name)

    def exec_module(self, module):
        pass


class _Anything(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class Denoiser(nn.Module):
    """E[x | u] of our density by Tweedie's formula, with a graph where deepinv differentiates it."""

    def __init__(self, prior):
        super().__init__()
        self.prior, self.evaluations, self._density, self._level = prior, 0, None, None

    def forward(self, u: Tensor, sigma, *args, **kwargs) -> Tensor:
        self.evaluations += 1
        low, high = self.prior.noise_range
        level = min(max(float(torch.as_tensor(sigma).reshape(-1)[0]), low), high)
        if level != self._level:  # as our own sampler has it: once for all steps of a level
            self._density, self._level = self.prior.at(level), level
        keep = torch.is_grad_enabled() and u.requires_grad
        with torch.enable_grad():
            at = u if keep else u.detach().requires_grad_()
            (score,) = torch.autograd.grad(self._density.log_prob(at).sum(), at, create_graph=keep)
        return u + level**2 * score


def langevin(which: str, prior, physics, noise: float, sigma: float, curvature: float) -> Callable:
    """``run(y, x, step, evaluations)`` of "ULA" or "SKRock": draws (n, N, C, H, W) and how many
    evaluations were made. ``step`` is a share of the largest that is stable for this ``curvature``."""
    deepinv = load()
    denoiser = Denoiser(prior)
    fidelity, score = deepinv.optim.L2(sigma=noise), deepinv.optim.ScorePrior(denoiser)
    each = 1 if which == "ULA" else STAGES
    stable = 2.0 if which == "ULA" else (STAGES - 0.5) ** 2 * (2 - 4 / 3 * ETA) - 1.5

    def run(y: Tensor, x: Tensor, step: float, evaluations: int) -> tuple[Tensor, int]:
        options = {"step_size": step * stable / curvature, "alpha": 1.0, "sigma": sigma}
        options |= {} if which == "ULA" else {"inner_iter": STAGES, "eta": ETA}
        iterations = max(8, evaluations // each)
        sampler = deepinv.sampling.sampling_builder(
            which, fidelity, score, options, max_iter=iterations, burnin_ratio=BURN_IN,
            thinning=max(1, iterations // 200), history_size=True,
        )  # fmt: skip
        denoiser.evaluations = 0
        sampler.sample(y, physics, x_init=x, seed=0)
        chain = sampler.get_chain()[1:]  # the first is the start
        return torch.stack([state["x"] for state in chain]), denoiser.evaluations

    return run


def dps(prior, physics, noise: float, sigma: float, steps: int) -> Callable:
    """``run(y, x, weight, evaluations)`` of diffusion posterior sampling (Chung et al. 2023), from
    exact draws of the prior at its highest noise level down to ``sigma`` in so many ``steps``; draws
    are independent."""
    deepinv = load()
    denoiser = Denoiser(prior)
    physics.noise_model = deepinv.physics.GaussianNoise(noise)
    high = prior.noise_range[1]

    def run(y: Tensor, x: Tensor, weight: float, evaluations: int) -> tuple[Tensor, int]:
        sampling = deepinv.sampling
        time = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        sampler = sampling.PosteriorDiffusion(
            data_fidelity=sampling.DPSDataFidelity(denoiser, weight, guidance="annealed"),
            denoiser=denoiser,
            sde=sampling.VarianceExplodingDiffusion(sigma_min=sigma, sigma_max=high, alpha=1.0),
            solver=sampling.EulerSolver(time),
            minus_one_one=False,
        )
        g = torch.Generator().manual_seed(0)
        denoiser.evaluations, found = 0, []
        for k in range(max(2, evaluations // steps)):
            begin = prior.sample(len(y), high, size=x.shape[-2:], generator=g)
            u = sampler(y, physics, x_init=begin.double(), seed=k + 1, denoise_output=False)
            found.append(u.detach().float())
        return torch.stack(found), denoiser.evaluations

    return run
