"""deepinv's samplers beside ours, with the same prior and as many evaluations of its gradient.

32x32 pixels, natural-gray at .02: half of the pixels, Gaussian projections (m/n = .3), blur. The
pictures are draws of the prior, so that intervals of the exact posterior hold what they promise.
ULA and SK-ROCK get the score of the density, DPS its denoiser, which it differentiates, so that an
evaluation of it counts as two. They start from the same reconstruction as ours, DPS from draws of
the prior at its highest level; their step (of DPS the weight) is that with the best CRPS on other
pictures. deepinv has its own environment:

    .venv-bench/bin/python benchmarks/posterior.py --only peers
"""

from __future__ import annotations

import time

import harness
import torch
from torch import Tensor

import innverse
from innverse import physics
from innverse.accelerate.constant import constant_parameters
from innverse.metrics import psnr
from innverse.metrics.chains import effective_size, r_hat
from innverse.solvers.posterior.draws.uncertainty import interval

from . import _deepinv
from ._setting import NoData, Setting

SEED = 250912821
SIGMA, CHAINS, LEVEL = 0.02, 4, 0.9
SHARES = {
    "ULA": (0.025, 0.05, 0.1, 0.2, 0.5),
    "SKRock": (0.0125, 0.025, 0.05, 0.2),
    "DPS": (0.3, 1.0, 3.0),
}
DPS_STEPS = 100  # evaluations of one of its draws
DPS_COUNTS = 2  # evaluations for each of its own: it differentiates the denoiser, too
OPTIONS = {"draws": 1200, "chains": CHAINS, "warmup": 80}
QUICK = {"draws": 16, "chains": CHAINS, "warmup": 4, "steps": 4}


def tasks(side: int) -> dict:
    """{name: (operator, noise)}"""
    shape, n = (1, side, side), side**2
    g = torch.Generator().manual_seed(0)
    return {
        "half the pixels": (physics.Inpainting.random(shape, 0.5, g), 0.05),
        "Gaussian projections": (physics.CompressedSensing(3 * n // 10, shape, generator=g), 0.02),
        "blur": (physics.Blur(physics.gaussian_kernel(1.0), image_shape=shape), 0.02),
    }


def run(setting: Setting) -> dict:
    if not _deepinv.available():
        raise NoData("needs deepinv: run it with .venv-bench/bin/python (make bench)")
    side, items = (8, 1) if setting.quick else (32, 2)
    prior = innverse.load("natural-gray")
    result: dict = {
        "side": side, "pictures": items, "chains": CHAINS, "sigma": SIGMA,
        "deepinv": _deepinv.load().__version__, "tasks": dict(setting.there.get("tasks", {})),
    }  # fmt: skip
    for name, (operator, noise) in tasks(side).items():
        if not setting.wants(name):
            continue
        operator.noise = physics.GaussianNoise(noise)
        told = result["tasks"][name] = {}
        for sampler, found in _task(setting, name, prior, operator, noise, (side, items)):
            told[sampler] = found
            setting.save(result)
    return result | {"ahead": _ahead(result["tasks"])}


def _task(setting: Setting, name: str, prior, operator, noise: float, size):
    """(sampler, what is told of it) of each."""
    side, items = size
    density = prior.at(SIGMA)
    # M = A^T A / s^2 + I / sigma0^2 is at most this: the steps of Langevin's are shares of its inverse
    curvature = operator.norm_squared((1, 1, side, side)) / noise**2 + 1 / SIGMA**2
    given = {"size": [side, items], "noise": noise, "sigma": SIGMA}

    def problem(what: str, n: int):
        g = setting.generator(name, what)
        u = density.sample(n, size=(side, side), generator=g)
        y = operator(u, g)
        start = innverse.solve(y, operator, prior, "pnp", views=1).x
        return u, y, start

    def ours() -> dict:
        u, y, start = problem("test", items)
        options = QUICK if setting.quick else OPTIONS
        started = time.process_time()
        found = innverse.solve(y, operator, prior, "posterior", sigma=SIGMA, init=start, **options)
        seconds = time.process_time() - started
        return _judge(u, found.by_chain, seconds, int(found.evaluations.max()))

    mine = setting.part(f"{name}/innverse", given | OPTIONS, ours)
    budget = mine["evaluations"]
    yield "innverse", mine
    for peer, shares in SHARES.items():
        sampler = (
            _deepinv.dps(prior, operator, noise, SIGMA, 5 if setting.quick else DPS_STEPS)
            if peer == "DPS"
            else _deepinv.langevin(peer, prior, operator, noise, SIGMA, curvature)
        )

        def chains(what: str, n: int, share: float, evaluations: int, sampler=sampler, peer=peer):
            u, y, start = problem(what, n)
            counts = DPS_COUNTS if peer == "DPS" else 1
            every = torch.arange(n).repeat_interleave(CHAINS)
            started = time.process_time()
            with constant_parameters():
                draws, used = sampler(y[every], start[every], share, evaluations // counts)
            seconds = time.process_time() - started
            draws = draws.unflatten(1, (n, CHAINS)).movedim(2, 0)  # (chains, n, items, C, H, W)
            return u, draws, seconds, counts * used

        def tune(shares=shares, chains=chains) -> dict:
            scores = []
            for share in shares:
                u, draws, *_ = chains("tuning", 1, share, budget // 4)
                scores.append(_crps(draws.flatten(0, 1), u))
            finite = [s if s == s else float("inf") for s in scores]
            return {"best": shares[finite.index(min(finite))], "crps": finite}

        settings = given | {"shares": shares, "budget": budget}
        tuned = setting.part(f"{name}/{peer}/tuning", settings, tune)
        found = setting.part(
            f"{name}/{peer}",
            settings | {"step": tuned["best"]},
            lambda chains=chains, step=tuned["best"]: _judge(*chains("test", items, step, budget)),
        )
        yield peer, found | {"step": tuned["best"]}


def _judge(u: Tensor, draws: Tensor, seconds: float, evaluations: int) -> dict:
    """Of draws (chains, n, B, C, H, W) and the truth u (B, C, H, W)."""
    flat = draws.flatten(0, 1)
    if not bool(flat.isfinite().all()):
        return {"diverged": True, "evaluations": evaluations, "seconds": seconds}
    low, high = interval(flat, LEVEL)
    n = draws.shape[1]
    size = effective_size(draws).median() if n >= 4 else None
    r = r_hat(draws).flatten().quantile(0.99) if n >= 4 else None
    independent = float(len(flat)) if size is None else float(size)
    return {
        "coverage of 90 %": float(((u >= low) & (u <= high)).double().mean()),
        "dB of the mean": float(psnr(flat.mean(0), u).mean()),
        "CRPS": _crps(flat, u),
        "R-hat of 99 %": None if r is None else float(r),
        "effective draws": independent,
        "evaluations": evaluations,
        "seconds": seconds,
        "effective draws a second": independent * u.shape[0] / seconds,
        "effective draws in 1000 evaluations": 1000 * independent / evaluations,
        "processor": harness.machine((), torch.get_num_threads())["processor"],
    }


def _crps(draws: Tensor, u: Tensor) -> float:
    """E|X - u| - E|X - X'| / 2, over pixels (Gneiting & Raftery 2007): the smaller the better."""
    ordered = draws.double().sort(0).values
    n = len(ordered)
    weight = (2 * torch.arange(1, n + 1, dtype=torch.float64) - n - 1) / (n * (n - 1))
    spread = (ordered * weight.view(-1, *[1] * u.dim())).sum(0)
    return float(((draws.double() - u).abs().mean(0) - spread).mean())


def _ahead(tasks: dict) -> dict[str, dict[str, float | None]]:
    """How many times our effective draws a second are those of a peer; None where chains, ours or its
    own, had not met (R-hat above 1.05), so that there is no effective size to speak of."""

    def met(told: dict) -> bool:
        return not told.get("diverged") and (told["R-hat of 99 %"] or 1.0) <= 1.05

    rate = "effective draws a second"
    return {
        name: {
            peer: told["innverse"][rate] / theirs[rate]
            if met(told["innverse"]) and met(theirs)
            else None
            for peer, theirs in told.items()
            if peer != "innverse"
        }
        for name, told in tasks.items()
    }


def table(result: dict) -> str:
    rows = []
    for task, told in result["tasks"].items():
        for name, found in told.items():
            if found.get("diverged"):
                rows.append([task, name, *["diverged"] * 5, f"{found['evaluations']}", ""])
                continue
            r = found["R-hat of 99 %"]
            rows.append([
                task,
                name,
                f"{100 * found['coverage of 90 %']:.0f}",
                f"{found['dB of the mean']:.2f}",
                f"{1000 * found['CRPS']:.2f}",
                "-" if r is None else f"{r:.2f}",
                f"{found['effective draws a second']:.1f}",
                f"{found['evaluations']}",
                found["processor"],
            ])  # fmt: skip
    head = ["task", "sampler", "90 % hold, %", "mean, dB", "CRPS x 1000", "R-hat of 99 %"]
    return harness.table([*head, "effective draws a second", "evaluations", "processor"], rows)
