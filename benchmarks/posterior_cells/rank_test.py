"""The exact rank test of the sampler's transitions (Gandy & Scott 2020): no chain has to converge.

u drawn from the prior is hidden at a random place of a chain that starts there; its rank is uniform if
and only if the transition leaves p(u | y) alone. Five operators and three models of noise with a prior
of digits (8x8), five operators with natural-gray (16x16); 1,000 replicates, seven quantities.
"""

from __future__ import annotations

import itertools

import torch

from innverse.accelerate.constant import constant_parameters
from innverse.metrics.calibration import rank_test

from . import _problems as problems
from ._kernel import LEAPFROG, Kernel
from ._setting import Setting
from ._uniform import added, counts, verdict, verdict_table

SEED = 20010646
LENGTH = 20  # states of a chain, and so as many ranks
CHUNK = 500
NO_LIGHT = ("compressed_sensing", "fourier")  # measurements below zero: no photons are counted

PROBLEMS = [
    (case, operator, noise)
    for case, operator, noise in itertools.product(
        problems.CASES, problems.OPERATORS, problems.NOISES
    )
    if (case is problems.DIGITS and not (noise == "poisson" and operator in NO_LIGHT))
    or noise == "gaussian"
]


table = verdict_table


def run(setting: Setting) -> dict:
    replicates = 40 if setting.quick else 1000
    chosen = PROBLEMS[:2] if setting.quick else PROBLEMS
    all_counts, steps, result = {}, {}, {}
    for case, operator, noise in chosen:
        name = f"{case.name}/{operator}/{noise}"
        parts, steps[name] = ranks(setting, case, operator, noise, replicates)
        all_counts[name] = added(parts)
        result = {"replicates": replicates, "length": LENGTH, "leapfrog": LEAPFROG, "steps": steps}
        result |= verdict(all_counts) | {"counts": all_counts}
        setting.save(result)
    return result


def ranks(
    setting: Setting,
    case: problems.Case,
    operator: str,
    noise: str,
    replicates: int,
    mutant: str | None = None,
    factor: float = 1.0,
) -> tuple[list[dict], float]:
    """Counts of the ranks, chunk by chunk, and the step: ``factor`` times that which dual averaging
    finds on other pictures."""
    name = "-".join(filter(None, (case.name, operator, noise, mutant)))
    density = case.prior(setting.work).at(case.sigma)
    op = problems.operator(operator, case)
    op.noise = problems.noise(noise, case, op.A(torch.zeros(1, *case.shape)))
    chunk = min(CHUNK, replicates)
    settings = {"leapfrog": LEAPFROG, "length": LENGTH, "chunk": chunk}

    def kernel(step: float, what, mutant=None):
        g = setting.generator(name, what)
        u, y = problems.simulate(case, density, op, chunk if what != "pilot" else 64, g)
        return u, Kernel(density, op, y, case.shape, step, g, mutant)

    def pilot() -> dict:
        u, right = kernel(0.2, "pilot")
        return {"step": right.adapted(u, 20 if setting.quick else 40)}

    def test(k: int, step: float) -> dict:
        u, one = kernel(step, k, mutant)
        of = problems.quantities(density, one.target.log_likelihood)
        found = rank_test(
            one.at(u),
            one,
            lambda point: torch.stack([f(point.u) for f in of.values()], 1),
            length=LENGTH,
            generator=one.g,
        )
        acceptance = float(torch.stack(one.acceptance).mean())
        return {"counts": counts(found.ranks, LENGTH - 1, of), "acceptance": acceptance}

    with constant_parameters():
        step = factor * setting.part(f"{name}/pilot", settings, pilot)["step"]
        parts = [
            setting.part(f"{name}/{k}", settings | {"step": step}, lambda k=k: test(k, step))
            for k in range(replicates // chunk)
        ]
    return [part["counts"] for part in parts], step
