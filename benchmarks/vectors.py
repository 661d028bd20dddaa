"""Coupling flows for vectors: training step, log_prob and sampling beside six libraries.

    python benchmarks/vectors.py [--quick] [--only affine-64 affine-6 spline-64 spline-6]
                                 [--libraries ...] [--rounds 5] [--out FOLDER]

D = 64: 12 couplings, networks of width 256; D = 6: 8 couplings, width 128; batch 512, float32.
Splines have 8 bins on [-5, 5].
"""

from __future__ import annotations

import harness

SIZES = {64: (12, 256), 6: (8, 128)}
QUESTIONS = [("affine", 64), ("affine", 6), ("spline", 64), ("spline", 6)]
LIBRARIES = ["innverse", "FrEIA", "nflows", "normflows", "zuko", "torchflows", "flowjax"]
PACKAGES = ("torch", "innverse", *LIBRARIES[1:], "jax")
CALLS = {"step": "seconds", "log_prob": "log_prob", "sample": "sample"}  # and their keys


def cells(only: list[str], libraries: list[str]) -> list[dict]:
    return [
        {"kind": kind, "d": d, "library": name}
        for kind, d in QUESTIONS
        for name in libraries
        if f"{kind}-{d}" in only and (kind, name) != ("spline", "FrEIA")
    ]


def measure(cell: dict) -> dict:
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


def text_of(kind: str, d: int, rows: list[dict]) -> str:
    layers, width = SIZES[d]
    lines = []
    for r in rows:
        if r.get("seconds") is None:
            lines.append([r["library"], f"failed: {r['error'][:60]}", *[""] * 4])
            continue
        times = [f"{r[key] * 1e3:.2f}" for key in CALLS.values()]
        low, high = (f"{t * 1e3:.1f}" for t in r["range"])
        busy = "" if r["idle"] else " (machine was busy)"
        lines.append(
            [r["library"] + busy, times[0], f"{low}-{high}", *times[1:], f"{r['parameters']:,}"]
        )
    header = ["", "step ms", "range of rounds", "log_prob ms", "sample ms", "parameters"]
    title = {"affine": "Affine", "spline": "Rational-quadratic spline"}[kind]
    return (
        f"## {title} couplings, D = {d}, {layers} layers, width {width}, batch 512\n\n"
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
    full = [cell | common for cell in asked]
    rows = harness.summaries(asked, harness.interleaved(__file__, full, rounds, args.threads))
    out = args.out
    if args.only != every:
        question = lambda row: (row["kind"], row["d"])  # noqa: E731
        rows = harness.with_earlier("vectors", rows, question, {"rounds": rounds}, out)
    info = harness.machine(PACKAGES, args.threads)
    parts = ["# Coupling flows for vectors\n", harness.machine_text(info, PACKAGES, rounds)]
    for kind, d in QUESTIONS:
        mine = [r for r in rows if (r["kind"], r["d"]) == (kind, d)]
        if mine:
            parts.append(text_of(kind, d, mine))
    text = "\n".join(parts)
    print(text)
    harness.write("vectors", text, {"machine": info, "rounds": rounds, "cells": rows}, out)


if __name__ == "__main__":
    harness.start(main, measure)
