"""Coupling flows for vectors: training step, log_prob and sampling beside six libraries.

    python benchmarks/vectors.py [--quick] [--only affine-64 affine-6 spline-64 spline-6]
                                 [--libraries ...] [--rounds 5] [--out FOLDER]

D = 64: 12 couplings, networks of width 256; D = 6: 8 couplings, width 128; batch 512, float32.
Splines have 8 bins on [-5, 5]. Affine couplings are matrix products and little else: how much of the
processor's speed of those a step reaches is told too. The file keeps the last run of each processor.
"""

from __future__ import annotations

import harness
from vector_flows import BATCH

SIZES = {64: (12, 256), 6: (8, 128)}
QUESTIONS = [("affine", 64), ("affine", 6), ("spline", 64), ("spline", 6)]
LIBRARIES = ["innverse", "FrEIA", "nflows", "normflows", "zuko", "torchflows", "flowjax"]
PACKAGES = ("torch", "innverse", *LIBRARIES[1:], "jax")
CALLS = {"step": "seconds", "log_prob": "log_prob", "sample": "sample"}  # and their keys


def products(d: int) -> float:
    """GFLOP of the products of a training step of affine couplings: value, and two gradients."""
    layers, width = SIZES[d]
    return 3 * 2e-9 * BATCH * layers * (d // 2 * width + width**2 + width * d)


def product_peak(cell: dict) -> dict:
    """GFLOP/s of the faster of PyTorch's large products and convolutions in float32."""
    import torch
    from peak import convolution_peak

    found = convolution_peak(cell)["gflops"]
    a = torch.randn(2048, 2048)
    timed = harness.seconds(lambda: a @ a, enough=cell["enough"])
    return {"gflops": max(found, 2e-9 * len(a) ** 3 / timed["fastest"])}


def cells(only: list[str], libraries: list[str]) -> list[dict]:
    return [
        {"kind": kind, "d": d, "library": name}
        for kind, d in QUESTIONS
        for name in libraries
        if f"{kind}-{d}" in only and (kind, name) != ("spline", "FrEIA")
    ]


def measure(cell: dict) -> dict:
    if cell.get("kind") == "peak":
        return product_peak(cell)
    layers, width = SIZES[cell["d"]]
    kind, d = cell["kind"], cell["d"]
    if cell["library"] == "flowjax":
        from vector_flows import flowjax_trial

        trial = flowjax_trial(kind, d, layers, width, cell["threads"])
    else:
        import torch
        from vector_flows import torch_trial

        torch.set_num_threads(cell["threads"])
        trial = torch_trial(cell["library"], kind, d, layers, width, cell.get("bf16", False))
    result: dict = {"parameters": trial.parameters, "idle": True}
    for call, key in CALLS.items():
        timed = harness.seconds(getattr(trial, call), warm_up=5, enough=cell["enough"])
        result[key] = timed["seconds"]
        result["idle"] &= timed["idle"]
    return result


def text_of(kind: str, d: int, rows: list[dict], peak: float | None) -> str:
    layers, width = SIZES[d]
    share_told = peak is not None and kind == "affine"
    header = ["", "step ms", "range of rounds", "log_prob ms", "sample ms", "parameters"]
    header += ["share of the peak"] if share_told else []
    lines = []
    for r in rows:
        if r.get("seconds") is None:
            failed = [r["library"], f"failed: {r['error'][:60]}"]
            lines.append(failed + [""] * (len(header) - 2))
            continue
        step, *others = (f"{r[key] * 1e3:.2f}" for key in CALLS.values())
        low, high = (f"{t * 1e3:.1f}" for t in r["range"])
        busy = "" if r["idle"] else " (machine was busy)"
        line = [r["library"] + busy, step, f"{low}-{high}", *others, f"{r['parameters']:,}"]
        lines.append(line + ([f"{products(d) / r['seconds'] / peak:.2f}"] if share_told else []))
    title = {"affine": "Affine", "spline": "Rational-quadratic spline"}[kind]
    return (
        f"## {title} couplings, D = {d}, {layers} layers, width {width}, batch {BATCH}\n\n"
        + harness.table(header, lines)
        + "\n\n"
        + ratios(rows)
    )


def ratios(rows: list[dict]) -> str:
    """How many times faster innverse is than the best other library, call by call."""
    ours = next((r for r in rows if r["library"] == "innverse"), None)
    if ours is None or ours.get("seconds") is None:
        return ""
    words = []
    for call, key in CALLS.items():
        peers = [(r[key], r["library"]) for r in rows if r is not ours and r.get(key)]
        if peers:
            fastest, name = min(peers)
            words.append(f"{call} {fastest / ours[key]:.2f} (of {name})")
    return "Time of the best other library / innverse's: " + ", ".join(words) + ".\n"


def main() -> None:
    every = [f"{kind}-{d}" for kind, d in QUESTIONS]
    parser = harness.Arguments(__doc__, threads=0, rounds=(5, 1))
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    args = parser.parse_args()
    rounds = args.rounds
    common = {"threads": args.threads, "enough": 0.5 if args.quick else 0.8}
    asked = cells(args.only, args.libraries)
    full = [cell | common for cell in ({"kind": "peak"}, *asked)]
    peak, *rows = harness.summaries(
        [{"kind": "peak"}, *asked], harness.interleaved(__file__, full, rounds, args.threads)
    )
    info = harness.machine(PACKAGES, args.threads)
    if args.only != every and (
        mine := harness.by_processor("vectors", args.out).get(info["processor"])
    ):
        if mine["rounds"] != rounds:
            raise SystemExit(f"the other rows are of {mine['rounds']} rounds: run all parts")
        question = lambda row: (row["kind"], row["d"])  # noqa: E731
        done = {question(row) for row in rows}
        rows += [row for row in mine["cells"] if question(row) not in done]
    run = {"machine": info, "rounds": rounds, "peak": peak["gflops"], "cells": rows}
    harness.write_by_processor("vectors", "Coupling flows for vectors", section, run, args.out)


def section(run: dict) -> str:
    """What one processor took."""
    peak = run.get("peak")
    parts = [harness.machine_text(run["machine"], PACKAGES, run["rounds"])]
    if peak:
        parts.append(f"Best product or convolution in float32: {peak:.0f} GFLOP/s.\n")
    for kind, d in QUESTIONS:
        rows = [r for r in run["cells"] if (r["kind"], r["d"]) == (kind, d)]
        if rows:
            parts.append(text_of(kind, d, rows, peak))
    return "\n".join(parts)


if __name__ == "__main__":
    harness.start(main, measure)
