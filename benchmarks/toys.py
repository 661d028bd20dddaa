"""Flows of vectors on the toys in the plane: held-out loss against the exact entropy.

    python benchmarks/toys.py [--quick] [--flows nice,spline] [--toys rings] [--seeds 0 1 2]

Every flow gets the same number of steps on fresh samples of the toy, Adam with a cosine schedule.
The held-out points and the entropy are exact, so nll - entropy is a Kullback-Leibler divergence;
the integral of the density over a grid says whether the density is one. It misses the mass of
features thinner than a cell of the grid: read it beside the loss.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from statistics import mean

import harness

PACKAGES = ("torch", "innverse")
HELD_OUT, BATCH, LR = 20000, 512, 2e-3
BOX = 8.0  # the density is summed over [-BOX, BOX]^2

# what differs from the defaults: a random permutation of two coordinates may be none
FLOWS = {
    "nice": {},
    "realnvp": {"mix": "lu"},
    "spline": {},
    "maf": {},
    "iaf": {},
}


def measure(cell: dict) -> dict:
    import torch

    from innverse import flows
    from innverse.bijections import initialize
    from innverse.data import toys

    torch.set_num_threads(cell["threads"])
    torch.set_flush_denormal(True)
    torch.manual_seed(cell["seed"])
    toy, draw = cell["toy"], torch.Generator().manual_seed(1000 + cell["seed"])
    held_out = toys.sample(toy, HELD_OUT, torch.Generator().manual_seed(1))
    flow = flows.build(cell["flow"], (2,), **FLOWS[cell["flow"]])
    initialize(flow, toys.sample(toy, 4096, draw))
    optimizer = torch.optim.Adam(flow.parameters(), LR, fused=True)
    steps = cell["steps"]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def nll() -> float:
        with torch.no_grad():
            return -flow.log_prob(held_out).double().mean().item()

    untrained, skipped, start = nll(), 0, time.perf_counter()
    for _ in range(steps):
        loss = -flow.log_prob(toys.sample(toy, BATCH, draw)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        if math.isfinite(norm):
            optimizer.step()
        else:
            skipped += 1
        schedule.step()
    seconds = time.perf_counter() - start

    side = cell["grid"]
    axis = (torch.arange(side, dtype=torch.float64) + 0.5) * (2 * BOX / side) - BOX
    flow.double()
    with torch.no_grad():
        parts = torch.cartesian_prod(axis, axis).split(1 << 16)
        total = sum(float(flow.log_prob(part).exp().sum()) for part in parts)
    return {
        "entropy": toys.entropy(toy),
        "untrained": untrained,
        "nll": nll_in_float64(flow, held_out),
        "integral": total * (2 * BOX / side) ** 2,
        "training_seconds": seconds,
        "skipped": skipped,
        "parameters": flow.n_parameters,
    }


def nll_in_float64(flow, held_out) -> float:
    import torch

    with torch.no_grad():
        return -flow.log_prob(held_out.double()).mean().item()


def text_of(rows: list[dict], toy: str) -> str:
    """One table: a line per flow, means over the seeds."""
    lines, entropy = [], None
    for name in dict.fromkeys(r["flow"] for r in rows):
        found = [r for r in rows if r["flow"] == name]
        good = [r for r in found if "error" not in r]
        if not good:
            lines.append([name, f"failed: {found[0]['error'][:60]}", *[""] * 5])
            continue
        entropy = good[0]["entropy"]
        gaps = [r["nll"] - entropy for r in good]
        integrals = [r["integral"] for r in good]
        failed = f" ({len(found) - len(good)} seeds failed)" if len(good) < len(found) else ""
        lines.append(
            [
                name + failed,
                f"{mean(r['untrained'] for r in good) - entropy:.3f}",
                f"{mean(gaps):.4f}",
                f"{min(gaps):.4f} .. {max(gaps):.4f}",
                f"{min(integrals):.4f} .. {max(integrals):.4f}",
                f"{mean(r['training_seconds'] for r in good):.0f}",
                f"{good[0]['parameters'] / 1000:.0f}",
            ]
        )
    header = [
        "flow", "untrained nll - entropy", "nll - entropy", "range of seeds", "integral of p",
        "training s", "thousand parameters",
    ]  # fmt: skip
    known = "" if entropy is None else f", entropy {entropy:.4f} nats"
    return f"## {toy}{known}\n\n{harness.table(header, lines)}\n"


def main() -> None:
    from innverse.data import toys

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps each: does it run?")
    parser.add_argument("--flows", default=",".join(FLOWS), help="comma-separated names")
    parser.add_argument("--toys", default=",".join(toys.names()), help="comma-separated names")
    parser.add_argument("--seeds", type=int, nargs="+", default=None)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="folder (default: results)")
    args = parser.parse_args()
    names, toy_names = args.flows.split(","), args.toys.split(",")
    for asked, known in ((names, list(FLOWS)), (toy_names, toys.names())):
        if unknown := [n for n in asked if n not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    seeds = args.seeds or ([0] if args.quick else [0, 1, 2])
    steps = args.steps or (20 if args.quick else 2000)
    info = harness.machine(PACKAGES, args.threads)
    common = {"steps": steps, "grid": 200 if args.quick else 1000, "threads": args.threads}
    cells = [
        {"flow": name, "toy": toy, "seed": seed} | common
        for toy in toy_names
        for name in names
        for seed in seeds
    ]
    found = harness.interleaved(__file__, cells, 1, args.threads)
    rows = [cell | results[0] for cell, results in zip(cells, found, strict=True)]
    versions = ", ".join(f"{n} {info[n]}" for n in PACKAGES)
    parts = [
        "# Toys in the plane\n",
        (
            f"{steps} steps of {BATCH} fresh samples, Adam at {LR:g} with a cosine schedule, "
            f"{len(seeds)} seeds; {HELD_OUT} held-out points, losses in nats, in float64. "
            f"{info['processor']}, {info['threads']} threads; {versions}. Times are of one run "
            "each and not of a quiet machine.\n"
        ),
        *(text_of([r for r in rows if r["toy"] == toy], toy) for toy in toy_names),
    ]
    text = "\n".join(parts)
    print(text)
    out = args.out or (Path("runs/bench") if args.quick else None)
    harness.write("toys", text, {"machine": info, "steps": steps, "cells": rows}, out)


if __name__ == "__main__":
    asked = harness.cell()
    if asked is None:
        main()
    else:
        harness.answer(measure(asked))
