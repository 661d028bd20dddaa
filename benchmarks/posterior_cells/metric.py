"""What chains gain from a metric that knows how curved the prior is at each frequency.

16x16 pixels, natural-gray at .02, draws of the prior: the defaults of `solve(method="posterior")` but
for the number of draws, with that metric and with one that takes the prior for equally curved
everywhere, from the same random numbers.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from unittest import mock

import harness
import torch

import innverse
from innverse import physics
from innverse.solvers.posterior import choose_metric

from ._setting import Setting

SEED, SIGMA, SIDE, ITEMS = 1604, 0.02, 16, 4
OPTIONS = {"draws": 800, "chains": 4}
QUICK = {"draws": 16, "chains": 2, "warmup": 4, "steps": 3}


def tasks() -> dict:
    """{name: (operator, noise)}"""
    shape = (1, SIDE, SIDE)
    half = physics.Inpainting.random(shape, 0.5, torch.Generator().manual_seed(0))
    blur = physics.Blur(physics.gaussian_kernel(1.0), image_shape=shape)
    return {
        "half the pixels, noise .02": (half, 0.02),
        "half the pixels, noise .05": (half, 0.05),
        "half the pixels, noise .1": (half, 0.1),
        "blur, noise .02": (blur, 0.02),
        "blur, noise .1": (blur, 0.1),
        "half of k-space, noise .05": (
            physics.SubsampledFourier(physics.cartesian_mask(shape[1:], 2.0), image_shape=shape),
            0.05,
        ),
    }


def run(setting: Setting) -> dict:
    result: dict = {"side": SIDE, "pictures": ITEMS, "sigma": SIGMA, "tasks": {}} | OPTIONS
    for name in list(tasks())[: 1 if setting.quick else None]:
        given = {"quick": setting.quick} | OPTIONS
        result["tasks"][name] = {
            which: setting.part(
                f"{name}/{which}", given, lambda name=name, which=which: one(setting, name, which)
            )
            for which in ("flat", "by frequency")
        }
        setting.save(result)
    return result


def one(setting: Setting, name: str, which: str) -> dict:
    operator, noise = tasks()[name]
    operator.noise = physics.GaussianNoise(noise)
    prior, g = innverse.load("natural-gray"), setting.generator(name)
    y = operator(prior.sample(ITEMS, SIGMA, size=(SIDE, SIDE), generator=g), g)
    blind = mock.patch.object(choose_metric, "prior_spectrum", lambda *_: None)
    with warnings.catch_warnings(), blind if which == "flat" else contextlib.nullcontext():
        warnings.simplefilter("ignore")  # of chains that have not met: the numbers say so
        found = innverse.solve(
            y, operator, prior, "posterior", sigma=SIGMA, seed=setting.seed,
            image_shape=(1, SIDE, SIDE), **(QUICK if setting.quick else OPTIONS),
        )  # fmt: skip
    evaluations = found.evaluations.double()
    bulk, tail = (found.diagnostics[f"ess_{k}"].double().flatten(1) for k in ("bulk", "tail"))
    per_thousand = 1000 / evaluations[:, None]
    r = found.diagnostics["r_hat"]
    return {
        "metric": found.diagnostics["metric"],
        "evaluations": float(evaluations.mean()),
        "bulk": float((bulk * per_thousand).median()),
        "bulk_least": float((bulk * per_thousand).min(1).values.median()),
        "tail": float((tail * per_thousand).median()),
        "r_hat": float(r.quantile(0.99)),
        "r_hat_all": float(r.max()),
    }


def table(result: dict) -> str:
    rows, gains = [], []
    for name, found in result["tasks"].items():
        for which, of in found.items():
            numbers = [f"{of[k]:.0f}" for k in ("evaluations", "bulk", "bulk_least", "tail")]
            r = f"{of['r_hat']:.3f} {of['r_hat_all']:.3f}"
            rows.append([name, which, of["metric"], *numbers, r])
        gains.append(found["by frequency"]["bulk"] / found["flat"]["bulk"])
    head = ["task", "prior", "metric", "evaluations", "effective in 1,000 evaluations, median"]
    head += ["least", "tails, median", "R-hat of 99 %, of all"]
    mean = math.exp(sum(map(math.log, gains)) / len(gains))
    words = (
        f"Median gain, bulk: {min(gains):.2f} to {max(gains):.2f} times, {mean:.2f} in the mean."
    )
    return "\n\n".join((harness.table(head, rows).rstrip(), words))
