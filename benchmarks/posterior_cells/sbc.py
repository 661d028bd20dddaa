"""Simulation-based calibration of the whole method, with its own start and warm-up.

Pictures u drawn from the prior, their measurements, and `innverse.solve(method="posterior")` as a user
calls it: the rank of u among 99 thinned draws is uniform where the draws follow p(u | y). Digits (8x8)
and natural-gray (16x16), five operators, 200 replicates each.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch

import innverse
from innverse.metrics.calibration import sbc
from innverse.physics.noise import GaussianNoise
from innverse.solvers.posterior.likelihood import gaussian

from . import _problems as problems
from ._setting import Setting
from ._uniform import added, counts, verdict, verdict_table

SEED = 1804
CHAINS, EACH = 3, 33  # 99 draws
CHUNK = 100


class Length(NamedTuple):
    """Of the chains. Fixed steps: where each picture adapts its own, a batch waits for the longest."""

    warmup: int = 60
    thin: int = 2
    steps: int = 8


# Where 126 short transitions of a chain are too few to move far.
LONGER = {
    "natural-gray-blur": Length(warmup=120),
    "natural-gray-fourier": Length(warmup=100, thin=3, steps=12),
}


table = verdict_table


def run(setting: Setting) -> dict:
    replicates = 20 if setting.quick else 200
    all_counts, chains, lengths, result = {}, {}, {}, {}
    for case in problems.CASES:
        for operator in problems.OPERATORS[:1] if setting.quick else problems.OPERATORS:
            name = f"{case.name}/{operator}/gaussian"
            parts = [chunk(setting, case, operator, k) for k in range(max(1, replicates // CHUNK))]
            all_counts[name] = added([part["counts"] for part in parts])
            chains[name] = [part["chains"] for part in parts]
            lengths[name] = length(setting, case, operator)._asdict()
            result = {"replicates": replicates, "chains": CHAINS, "draws": CHAINS * EACH}
            result |= {"lengths": lengths, "of_chains": chains}
            result |= verdict(all_counts) | {"counts": all_counts}
            setting.save(result)
    return result


def length(setting: Setting, case: problems.Case, operator: str) -> Length:
    return Length(20, 1) if setting.quick else LONGER.get(f"{case.name}-{operator}", Length())


def chunk(setting: Setting, case: problems.Case, operator: str, k: int) -> dict:
    """Counts of the ranks of 100 pictures, and what the chains say of themselves."""
    n, name = 20 if setting.quick else CHUNK, f"{case.name}-{operator}"
    warmup, thin, steps = long = length(setting, case, operator)
    settings = {"chains": CHAINS, "each": EACH} | long._asdict() | {"n": n}

    def compute() -> dict:
        prior = case.prior(setting.work)
        density = prior.at(case.sigma)
        op = problems.operator(operator, case)
        op.noise = GaussianNoise(case.s)
        u, y = problems.simulate(case, density, op, n, setting.generator(name, k))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of draws that look little like pictures
            found = innverse.solve(
                y,
                op,
                prior,
                "posterior",
                image_shape=case.shape,
                sigma=case.sigma,
                draws=CHAINS * EACH * thin,
                chains=CHAINS,
                warmup=warmup,
                steps=steps,
                seed=setting.seed + k,
            )
        # draws of one chain follow each other
        draws = found.samples.unflatten(0, (CHAINS, EACH * thin))[:, thin - 1 :: thin].flatten(0, 1)
        of = problems.quantities(density, gaussian(op, y, torch.full((n,), case.s)))
        ranks = sbc(
            draws,
            u,
            of=lambda v: torch.stack([f(v) for f in of.values()], 1),
            generator=setting.generator(name, k, "ties"),
        ).ranks
        said = found.diagnostics
        return {
            "counts": counts(ranks, len(draws), of),
            "chains": {
                "r_hat_99": float(said["r_hat"].quantile(0.99)),
                "ess_bulk": float(said["ess_bulk"].median()),
                "acceptance": float(said["acceptance"].mean()),
                "evaluations": float(found.evaluations.double().mean()),
                "converged": float(found.converged.double().mean()),
            },
        }

    return setting.part(f"{name}/{k}", settings, compute)
