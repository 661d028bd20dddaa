"""What error bars cost: seconds, and whether the chains had met by then.

The defaults of `solve(method="posterior")` but for the number of draws, chains and transitions of the
warm-up, each problem by itself with --threads: a digit (8x8, 1,000 effective draws wanted within 30
seconds), a face of 64x64 (4 chains that meet within 5 minutes), a photograph of 64x64, and one of
256x256 (within 30 minutes). Half of the pixels are missing, the noise is .05. R-hat is that of 99 % of
the pixels. What is sampled of the face and the photographs is u = x + sigma e at the level of the
noise, from which the mean of x and its deviation follow.
"""

from __future__ import annotations

import resource
import warnings

import harness
import torch

import innverse
from innverse import physics
from innverse.data.sources import open_images
from innverse.metrics import psnr

from . import _problems
from .pictures import pictures

PROBLEMS = {
    "digit": {"draws": 2048, "chains": 16, "warmup": 60},
    "face": {"draws": 1200, "chains": 4, "warmup": 120, "of": "clean"},
    "photograph": {"draws": 1200, "chains": 4, "warmup": 120, "of": "clean"},
    "whole photograph": {"draws": 240, "chains": 2, "warmup": 60, "of": "clean"},
}


def run(setting) -> dict:
    result = {}
    for name, options in PROBLEMS.items():
        options = options if not setting.quick else {"draws": 16, "chains": 2, "warmup": 4}
        threads = torch.get_num_threads()
        key = {"threads": threads, **options}
        result[name] = setting.part(name, key, lambda n=name, o=options: one(setting, n, o))
        setting.save(result)
    return result


def one(setting, name: str, options: dict) -> dict:
    g = setting.generator(name)
    if name == "digit":
        case = _problems.DIGITS
        prior = case.prior(setting.work)
        x = prior.sample(1, case.sigma, size=case.shape[1:], generator=g)
        options = options | {"sigma": case.sigma}
    else:
        whole = name.startswith("whole")
        group = "faces" if name == "face" else "photographs"
        x = first_photograph(setting) if whole else pictures(setting, group, "test")[:1]
        prior = innverse.load({"faces": "faces64", "photographs": "natural-gray"}[group])
        x = x[..., :16, :16] if setting.quick else x
    op = physics.Inpainting.random(tuple(x.shape[1:]), 0.5, g, noise=0.05)
    y = op(x, g)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = innverse.solve(y, op, prior, "posterior", image_shape=tuple(x.shape[1:]), **options)
    said = found.diagnostics
    low, high = found.interval(0.9)
    return {
        "seconds": found.seconds,
        "evaluations": int(found.evaluations[0]),
        "r_hat": float(said["r_hat"].quantile(0.99)),
        "r_hat_all": float(said["r_hat"].max()),
        "ess_median": float(said["ess_bulk"].median()),
        "ess_smallest": float(said["ess_bulk"].min()),
        "covered": float(((x >= low) & (x <= high)).double().mean()),
        "psnr": float(psnr(found.x, x)),
        "status": found.status[0],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def first_photograph(setting) -> torch.Tensor:
    """(1, 1, 256, 256): the first of set12."""
    source = open_images(setting.archive("restoration_test.tar"), subset="set12", channels=1)
    return source[0][None].float() / 255


def table(result: dict) -> str:
    head = ["problem", "seconds", "evaluations", "R-hat of 99 %, of all", "effective, median, least",
            "90 % hold, %", "mean, dB", "converged", "peak GB so far"]  # fmt: skip
    rows = [
        [
            name,
            f"{r['seconds']:.0f}",
            str(r["evaluations"]),
            f"{r['r_hat']:.3f} {r['r_hat_all']:.3f}",
            f"{r['ess_median']:.0f} {r['ess_smallest']:.0f}",
            f"{100 * r['covered']:.0f}",
            f"{r['psnr']:.1f}",
            "yes" if r["status"] == "converged" else "no",
            f"{r['peak_gb']:.2f}",
        ]
        for name, r in result.items()
        if name in PROBLEMS
    ]
    return harness.table(head, rows)
