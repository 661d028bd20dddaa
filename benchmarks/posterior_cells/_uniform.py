"""Counts of ranks, of many quantities in many problems, and the verdict on all of them together."""

from __future__ import annotations

import torch
from harness import table
from torch import Tensor

from innverse.metrics.calibration import counts_p, ecdf_p, holm

THRESHOLD = 0.05  # of p-values after Holm's correction
BINS = 20


def counts(ranks: Tensor, draws: int, names) -> dict[str, list[int]]:
    """How often each rank 0..draws came, of each quantity."""
    columns = zip(names, ranks.T, strict=True)
    return {name: torch.bincount(c, minlength=draws + 1).tolist() for name, c in columns}


def added(parts: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    return {name: torch.tensor([p[name] for p in parts]).sum(0).tolist() for name in parts[0]}


def p_values(counted: dict[str, list[int]]) -> dict[str, dict[str, float]]:
    """Of each quantity: chi-square over at most `BINS` bins, and the exact probability that ranks
    leave a simultaneous band as far as these."""
    found = {}
    for name, values in counted.items():
        ranks = torch.repeat_interleave(torch.arange(len(values)), torch.tensor(values))
        ranks, draws = ranks.unsqueeze(1), len(values) - 1
        chi, band = (f(ranks, draws, *more) for f, more in ((counts_p, [BINS]), (ecdf_p, [])))
        found[name] = {"counts": float(chi), "band": float(band)}
    return found


def verdict(all_counts: dict[str, dict[str, list[int]]]) -> dict:
    """Of {problem: {quantity: counts}}: every p-value, and the smallest after Holm's correction over
    all of them, for the counts and for the bands."""
    each = {problem: p_values(counted) for problem, counted in all_counts.items()}
    result = {"p_values": each, "threshold": THRESHOLD}
    for kind in ("counts", "band"):
        p = [found[kind] for quantities in each.values() for found in quantities.values()]
        result |= {
            f"smallest_p_{kind}": min(p),
            f"holm_{kind}": float(holm(p).min()),
            "tests": len(p),
        }
    result["uniform"] = min(result["holm_counts"], result["holm_band"]) >= THRESHOLD
    return result


def verdict_table(result: dict) -> str:
    """A row for each problem: its smallest p-values, alone; and the verdict on all together."""
    rows = []
    for problem, found in result["p_values"].items():
        smallest = [min(p[kind] for p in found.values()) for kind in ("counts", "band")]
        rows.append([problem, str(len(found)), *(f"{p:.3f}" for p in smallest)])
    head = ["problem", "quantities", "smallest p, counts", "smallest p, band"]
    words = "uniform" if result["uniform"] else "NOT uniform"
    return (
        f"{table(head, rows)}\n\n{result['replicates']} replicates, {result['tests']} tests of each "
        f"kind; smallest p after Holm's correction: counts {result['holm_counts']:.3f}, bands "
        f"{result['holm_band']:.3f}; at the threshold {result['threshold']}: **{words}**."
    )
