"""Three samplers that are wrong on purpose, and must be found out by the tests of the right one.

One accepts every move at twice the adapted step, one draws momenta from N(0, I) while its velocity
is M^-1 p, and one draws from the prior whatever the data are. The first two go through the exact
rank test (`rank_test`), the third is ranked among 99 of its draws (as in `sbc`).
"""

from __future__ import annotations

import harness
import torch

from innverse.metrics.calibration import sbc
from innverse.solvers.posterior.likelihood import gaussian

from . import _problems as problems
from . import rank_test
from ._setting import Setting
from ._uniform import THRESHOLD, added, counts, p_values

SEED = 20010646
TESTS = 126 + 70  # of `rank_test` and `sbc`: among so many the p-values of a mutant must be found


def run(setting: Setting) -> dict:
    n = 40 if setting.quick else 500
    all_counts, result = {}, {}
    for case in problems.CASES[: 1 if setting.quick else 2]:
        for operator in ("inpainting", "compressed_sensing"):
            where = f"{case.name}/{operator}"
            for mutant, factor in (("accepts", 2.0), ("momenta", 1.0)):
                parts, _ = rank_test.ranks(setting, case, operator, "gaussian", n, mutant, factor)
                all_counts[f"{mutant}: {where}"] = added(parts)
            all_counts[f"ignores y: {where}"] = ignoring(setting, case, operator)
            result = found_out(all_counts) | {"counts": all_counts}
            setting.save(result)
    return result


def found_out(all_counts: dict) -> dict:
    each = {}
    for name, counted in all_counts.items():
        found = p_values(counted)
        smallest = TESTS * min(min(p.values()) for p in found.values())
        each[name] = {"smallest_p_among_all": smallest, "p_values": found}
    worst = max(v["smallest_p_among_all"] for v in each.values())
    about = {"threshold": THRESHOLD, "tests": TESTS, "all_found_out": worst < THRESHOLD}
    return about | {"largest_p_among_all": worst, "each": each}


def table(result: dict) -> str:
    smallest = {n: max(v["smallest_p_among_all"], 1e-9) for n, v in result["each"].items()}
    rows = [[n, f"{p:.0e}" if p > 1e-9 else "below 1e-9"] for n, p in smallest.items()]
    head = ["mutant", f"smallest p, times {result['tests']} tests"]
    return f"{harness.table(head, rows)}\n\nFound out below {result['threshold']}."


def ignoring(setting: Setting, case: problems.Case, operator: str) -> dict:
    """Counts of the ranks of u among 99 draws of the prior."""
    n = 20 if setting.quick else 200

    def compute() -> dict:
        g = setting.generator("ignores", case.name, operator)
        density = case.prior(setting.work).at(case.sigma)
        op = problems.operator(operator, case)
        op.noise = problems.noise("gaussian", case, torch.zeros(1))
        u, y = problems.simulate(case, density, op, n, g)
        draws = torch.stack(
            [density.sample(n, size=case.shape[1:], generator=g) for _ in range(99)]
        )
        of = problems.quantities(density, gaussian(op, y, torch.full((n,), case.s)))
        found = sbc(draws, u, of=lambda v: torch.stack([f(v) for f in of.values()], 1), generator=g)
        return counts(found.ranks, 99, of)

    return setting.part(f"ignores-{case.name}-{operator}", {"n": n}, compute)
