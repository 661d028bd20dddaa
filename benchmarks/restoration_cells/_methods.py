"""The ways to restore: each takes a measurement, its operator, one tuned weight, and the setting."""

from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor

import innverse
from innverse.physics import LinearPhysics
from innverse.solvers.baselines.tv import default_lam

from . import _deepinv, _epll, _patchnr, _pictures
from ._setting import NoData, Setting

ROOT = Path(__file__).parents[2]
NOISELESS = 2e-3  # a deviation that stands for no noise
PATCH_STEPS = 4000  # of the training of a patch flow

Restore = Callable[[Tensor, LinearPhysics, float, Setting], Tensor]


@dataclass(frozen=True)
class Way:
    """``grid``: the weights that are tried on training pictures, of all tasks but ``untuned``;
    ``tuned_on``: the side of those; ``usual``: what counts without; ``small``: only on crops, since it
    is dear."""

    restore: Restore
    grid: tuple[float, ...] = ()
    untuned: str = ""
    usual: float = 1.0
    small: bool = False
    tuned_on: int = _pictures.SIDE

    def weights(self, task: str) -> tuple[float, ...]:
        return () if fnmatch(task, self.untuned) else self.grid


def noise_of(physics: LinearPhysics) -> float:
    return max(float(physics.sigma or 0), NOISELESS)


def first_guess(y: Tensor, physics: LinearPhysics) -> Tensor:
    from innverse.solvers.problem import Problem

    return Problem.build(y, physics, None).first_guess()


def pseudo_inverse(y, physics, weight, setting):
    return physics.A_dagger(y)


def total_variation(y, physics, weight, setting):
    lam = weight * default_lam(physics.sigma, physics)
    return innverse.solve(y, physics, method="tv", lam=lam).x


def wavelets(y, physics, weight, setting):
    lam = weight * max(noise_of(physics), 0.005)
    return innverse.solve(y, physics, method="lasso", basis="db2", lam=lam).x


def epll(y, physics, weight, setting):
    x = first_guess(y, physics)
    return _epll.restore(y, physics, noise_of(physics), mixture(setting), weight, x)


@torch.no_grad()
def dncnn(y, physics, weight, setting):
    """Half-quadratic splitting with the one denoiser, for deviation 25; others by scaling contrast."""
    net, known, noise = peer(setting), 25 / 255, noise_of(physics)

    def clean(x: Tensor, level: float) -> Tensor:
        return x - level / known * net(x * known / level)

    if type(physics).__name__ == "Denoising":
        return clean(y, noise)
    back, x = physics.A_adjoint(y), first_guess(y, physics)
    steps = 3 if setting.quick else 12
    for k in range(steps):
        level = known * 2 ** (1 - k / (steps - 1))  # from 50 to 25
        smooth = clean(x, level)
        rho = weight * (noise / level) ** 2
        x = physics.solve_normal(back + rho * smooth, rho, x0=smooth)
    return x


def ours(method: str, option: str = "", of: Callable = lambda setting: zoo(), **more) -> Restore:
    """A method of `innverse.solve` whose weight is ``option``."""

    def restore(y, physics, weight, setting):
        given = more | ({option: weight} if option and weight else {})
        if setting.quick:
            given["steps"] = 3
        return innverse.solve(y, physics, of(setting), method, **given).x

    return restore


def posterior_mean(y, physics, weight, setting):
    effort = {"draws": 8, "chains": 2, "warmup": 2} if setting.quick else {"draws": 200}
    return innverse.solve(y, physics, zoo(), "posterior", noise=noise_of(physics), **effort).x


def patchnr(y, physics, weight, setting):
    x, steps = first_guess(y, physics), 3 if setting.quick else _patchnr.STEPS
    flow = patch_flow(setting)
    return _patchnr.restore(y, physics, noise_of(physics), flow, weight, x, steps)


@functools.cache
def zoo():
    return innverse.load("natural-gray")


def patch_flow(setting: Setting):
    """A flow of patches, learned from the training pictures where none is given."""
    return innverse.load(setting.patches or _trained_patches(setting.work, setting))


@functools.cache
def _trained_patches(work: Path, setting: Setting) -> Path:
    model = work / "patches" / "model"
    if setting.quick:
        raise NoData("needs --patches, a model")
    if not model.exists():
        data = setting.archive("natural_train.tar")
        subprocess.run(
            [sys.executable, "-m", "innverse", "train", str(ROOT / "configs/texture.toml"),
             "--data", str(data), "--subset", "bsds400", "--out", str(work / "patches"),
             "--steps", str(PATCH_STEPS)],
            check=True, cwd=ROOT,
        )  # fmt: skip
    return model


@functools.cache
def peer(setting: Setting):
    from dncnn import dncnn as network

    if setting.dncnn is None:
        raise NoData("needs --dncnn, the weights")
    return network(setting.dncnn)


@functools.cache
def mixture(setting: Setting) -> _epll.Mixture:
    """Of patches of training pictures; kept in the working folder."""
    file = setting.work / "mixture.pt"
    if file.exists():
        return _epll.Mixture(*torch.load(file, weights_only=True))
    number, k, steps = (2000, 5, 3) if setting.quick else (60_000, 100, 15)
    found = _epll.Mixture.fit(_pictures.patches(setting, number, _epll.SIDE), k, steps)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save([found.weights, found.covariances], file)
    return found


_LESS = (0.25, 0.5, 1.0, 2.0, 4.0)
_STRENGTHS = (0.125, 0.25, 0.5)  # which plain denoising, one step, does not know

WAYS: dict[str, Way] = {
    "pseudo-inverse": Way(pseudo_inverse),
    "total variation": Way(total_variation, (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)),
    "wavelets": Way(wavelets, (0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)),
    "EPLL": Way(epll, _LESS, tuned_on=_pictures.SMALL),
    "DnCNN": Way(dncnn, _LESS, tuned_on=_pictures.SMALL),
    "zoo prior, pnp": Way(
        ours("pnp", "strength"), _STRENGTHS, "denoise-*", 0.0, tuned_on=_pictures.SMALL
    ),
    "zoo prior, MAP": Way(ours("map", "beta"), (0.5, 1.0), tuned_on=_pictures.SMALL),
    "zoo prior, posterior mean": Way(posterior_mean, small=True),
    "patch flow, pnp": Way(
        ours("pnp", "strength", patch_flow),
        _STRENGTHS,
        "denoise-*",
        0.0,
        tuned_on=_pictures.SMALL,
    ),
    "patch flow, gradient": Way(patchnr, _LESS, tuned_on=_pictures.SMALL),
} | {name: Way(restore, _LESS) for name, restore in _deepinv.WAYS.items()}


def restored(name: str, task: str, y: Tensor, physics: LinearPhysics, setting: Setting) -> Tensor:
    """What a way finds with the weight that was tuned for the task."""
    weight = setting.tuned.get(name, {}).get(task, WAYS[name].usual)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a pseudo-inverse of noise need not converge
        return WAYS[name].restore(y, physics, weight, setting).clamp(0, 1)
