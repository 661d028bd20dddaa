"""How R-hat falls as chains grow longer, and as more of their beginning is thrown away.

The first crop of a photograph of `pictures`, half its pixels missing at noise .05: one run of two
chains with the warm-up used there (100 transitions), of which windows are judged.
"""

from __future__ import annotations

import warnings

import harness

import innverse
from innverse.metrics.chains import effective_size, r_hat

from .pictures import CHUNK, GROUPS, SAMPLER, TASKS, pictures

WINDOWS = ((0, 100), (0, 200), (100, 200), (200, 200), (0, 400))  # thrown away, kept of each chain


def run(setting) -> dict:
    options = SAMPLER | ({"draws": 40, "warmup": 4, "steps": 3} if setting.quick else {})
    return {"sampler": options} | setting.part(
        "photographs-half_05", options, lambda: one(setting, options)
    )


def one(setting, options: dict) -> dict:
    x = pictures(setting, "photographs", "test")[:CHUNK]
    x = x[..., :16, :16] if setting.quick else x
    op = TASKS["half_05"].operator("half_05", tuple(x.shape[1:]))
    y = op(x, setting.generator("photographs", "half_05", "test", 0))[:1]
    prior = innverse.load(GROUPS["photographs"].prior)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chains that have not met: the numbers say so
        found = innverse.solve(y, op, prior, "posterior", of="clean", seed=setting.seed, **options)
    windows = [(skip // 50, n // 50) if setting.quick else (skip, n) for skip, n in WINDOWS]
    return {
        "windows": [
            described(skip, found.by_chain[:, skip : skip + n]) for skip, n in windows if n > 3
        ],
        "evaluations": int(found.evaluations[0]),
    }


def described(skip: int, draws) -> dict:
    r = r_hat(draws).flatten()
    size = effective_size(draws)
    return {
        "thrown_away": skip,
        "kept": draws.shape[1],
        "r_hat": float(r.quantile(0.99)),
        "r_hat_all": float(r.max()),
        "ess_smallest": float(size.min()),
    }


def table(result: dict) -> str:
    rows = [
        [str(w["thrown_away"]), str(w["kept"]), f"{w['r_hat']:.3f}", f"{w['r_hat_all']:.3f}",
         f"{w['ess_smallest']:.0f}"]
        for w in result["windows"]
    ]  # fmt: skip
    head = ["thrown away of each chain", "kept", "R-hat of 99 %", "of all", "effective, least"]
    return harness.table(head, rows)
