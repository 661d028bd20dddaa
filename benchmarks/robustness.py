"""Does a flow ever go NaN? Every registered flow, twenty seeds, twice the default learning rate.

    python benchmarks/robustness.py [--quick] [--flows glow,spline]

Small flows, 2,000 steps each: vectors on the toys in the plane (which toy depends on the seed),
images on scikit-learn's digits. Each step is the trainer's: gradients clipped to norm 1,
judged by `innverse.fitting.guard.Guard`, AdamW; a linear warm-up, then the full rate. A run passes if
every parameter and every held-out density are finite when it is over.

Nothing of this makes a guard work, so in further runs every 50th batch is poisoned, in turn by one
NaN and by one item of 1e4 standard deviations: the guard must refuse what is not finite, and the run
must go on and end below its loss before the first of them.
"""

from __future__ import annotations

import math
import time

import harness

PACKAGES = ("torch", "innverse")
BATCH, WARM_UP, EVERY = 64, 200, 50

VECTORS = {
    "nice": {"layers": 4, "width": 16},
    "realnvp": {"layers": 4, "width": 16, "mix": "lu"},
    "nsf": {"layers": 3, "width": 16, "bins": 4},
    "maf": {"layers": 3, "width": 16},
    "iaf": {"layers": 2, "width": 16},
    "residual": {"layers": 2, "hidden": 16},
    "flow_matching": {"hidden": 32, "depth": 2, "evaluations": 16},
}
IMAGES = {
    "glow": {"levels": 2, "steps": 2, "hidden": 16},
    "realnvp": {"levels": 2, "hidden": 8, "blocks": 1},
    "tarflow": {"patch": 2, "blocks": 2, "hidden": 16, "depth": 1, "heads": 2},
}


# ---- one cell: all seeds of one flow ------------------------------------------------------------


def measure(cell: dict) -> dict:

    harness.use(cell["threads"])
    start = time.process_time()
    runs = [_run(cell, seed, poison=False) for seed in range(cell["seeds"])]
    poisoned = [_run(cell, seed, poison=True) for seed in range(cell["poisoned_seeds"])]
    return {"runs": runs, "poisoned": poisoned, "minutes": (time.process_time() - start) / 60}


def _run(cell: dict, seed: int, poison: bool) -> dict:
    import torch

    from innverse import flows
    from innverse.bijections import initialize
    from innverse.train.config import TrainConfig
    from innverse.train.trainer import descent

    settings = TrainConfig()
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(1000 + seed)
    batch, shape = _data(cell["kind"], seed, draw)
    flow = flows.build(cell["flow"], shape, **cell["options"])
    initialize(flow, batch(512))
    held_out = batch(256)
    descended = descent(flow, settings)
    guard = descended.guard
    dims, given, refused, before = math.prod(shape), 0, 0, math.nan
    steps = cell["poisoned_steps"] if poison else cell["steps"]
    for step in range(steps):
        lr = cell["factor"] * settings.lr * min(1, (step + 1) / WARM_UP)
        x = batch(BATCH)
        bad = poison and step % EVERY == EVERY - 1
        if bad:
            if not given:
                before = _held_out(flow, held_out)
            x[0].view(-1)[0] = math.nan if given % 2 == 0 else 1e4
            given += 1
        loss = _loss(flow, x, dims)
        norm = descended.gradient(loss)
        if descended.step(step, loss.item(), norm, lr) is not None:
            refused += bad
    finite = all(bool(p.isfinite().all()) for p in flow.parameters())
    after = _held_out(flow, held_out)
    facts = {"seed": seed, "finite": finite and math.isfinite(after), "skipped": guard.skipped}
    if poison:
        facts |= {"given": given, "refused": refused, "improved": after < before}
    return facts


def _loss(flow, x, dims: int):
    """Nats per dimension, or flow matching's own loss."""
    if hasattr(flow, "training_loss"):
        return flow.training_loss(x)
    return -flow.log_prob(x).mean() / dims


def _held_out(flow, x) -> float:
    import torch

    flow.eval()
    with torch.no_grad():
        nll = -flow.log_prob(x).mean().item()
    flow.train()
    return nll


def _data(kind: str, seed: int, draw):
    """A function that draws n items, and the shape of one."""
    import torch

    from innverse.data import dequantize, open_images, toys

    if kind == "vectors":
        toy = toys.names()[seed % len(toys.names())]
        return lambda n: toys.sample(toy, n, draw), (2,)
    digits = open_images("digits", channels=1).stack()

    def batch(n: int):
        images = digits[torch.randint(len(digits), (n,), generator=draw)]
        return dequantize(images, noise=torch.rand(images.shape, generator=draw))

    return batch, tuple(digits.shape[1:])


# ---- the report ---------------------------------------------------------------------------------


def text_of(rows: list[dict], info: dict, shared: dict) -> str:
    lines = []
    for row in rows:
        name = f"{row['flow']}, {row['kind']}"
        if "error" in row:
            lines.append([name, f"failed: {row['error'][:60]}", *[""] * 5])
            continue
        runs, poisoned = row["runs"], row["poisoned"]
        given = sum(r["given"] for r in poisoned)
        lines.append(
            [
                name,
                f"{sum(not r['finite'] for r in runs)} of {len(runs)}",
                f"{sum(r['skipped'] for r in runs)} of {len(runs) * row['steps']:,}",
                f"{sum(r['refused'] for r in poisoned)} of {given}",
                f"{sum(not r['finite'] for r in poisoned)} of {len(poisoned)}",
                f"{sum(r['improved'] for r in poisoned)} of {len(poisoned)}",
                f"{row['minutes']:.1f}",
            ]
        )
    header = [
        "flow", "runs with NaN", "steps refused", "poisoned steps refused",
        "poisoned runs with NaN", "of these improved", "processor min",
    ]  # fmt: skip
    versions = ", ".join(f"{n} {info[n]}" for n in PACKAGES)
    return (
        f"# No NaN at {shared['factor']:g} times the default learning rate\n\n"
        f"{shared['seeds']} seeds of {shared['steps']:,} steps, batches of {BATCH}; with every "
        f"{EVERY}th batch poisoned {shared['poisoned_seeds']} seeds of "
        f"{shared['poisoned_steps']:,}. A poisoned step is refused by the guard, or else finite and "
        f"clipped. {info['processor']}, one thread; {versions}.\n\n"
        "    python benchmarks/robustness.py\n\n"
        f"{harness.table(header, lines)}\n"
    )


def main() -> None:
    from innverse import flows

    known = [("vectors", n, o) for n, o in VECTORS.items()]
    known += [("images", n, o) for n, o in IMAGES.items()]
    if missing := set(flows.names()) - {name for _, name, _ in known}:
        raise SystemExit(f"not covered: {', '.join(sorted(missing))}")
    parser = harness.Arguments(__doc__, cluster=True)
    parser.add_argument("--flows", default=None, help="comma-separated names")
    parser.add_argument(
        "--factor", type=float, default=2.0, help="times the trainer's default rate"
    )
    args = parser.parse_args()
    names = args.flows.split(",") if args.flows else flows.names()
    if unknown := set(names) - set(flows.names()):
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(flows.names())}")
    shared = {
        "seeds": 2 if args.quick else 20,
        "steps": 30 if args.quick else 2000,
        "poisoned_seeds": 1 if args.quick else 3,
        "poisoned_steps": 110 if args.quick else 1000,
        "factor": args.factor,
        "threads": 1,
    }
    cells = [
        {"flow": name, "kind": kind, "options": options} | shared
        for kind, name, options in known
        if name in names
    ]
    info = harness.machine(PACKAGES, 1)
    found = harness.interleaved(__file__, cells, 1, 1, args.cluster)
    rows = [cell | results[0] for cell, results in zip(cells, found, strict=True)]
    out = args.out
    if args.flows:
        rows = harness.with_earlier("robustness", rows, lambda r: (r["kind"], r["flow"]), {}, out)
    text = text_of(rows, info, shared)
    print(text)
    harness.write("robustness", text, {"machine": info, "cells": rows}, out)


if __name__ == "__main__":
    harness.start(main, measure)
