"""Memory and time against depth and image size, for each memory mode.

    python benchmarks/memory.py [--quick] [--rounds 3] [--out FOLDER]

Glow with L = 3 and hidden 64: depth K = 8 .. 128 on 3x32x32 (batch 8), then sizes 32 .. 256 at K = 8
(batch 2). Bytes are the peak of the live tensors in a gradient, beyond parameters and gradients.
"""

from __future__ import annotations

import harness

LEVELS, HIDDEN = 3, 64
MODES = ("store", "checkpoint", "reversible")
DEPTHS, SIZES = (8, 16, 32, 64, 128), (32, 64, 128, 256)
PACKAGES = ("torch", "innverse")


def measure(cell: dict) -> dict:
    import glows
    import torch

    harness.use(cell["threads"])
    torch.manual_seed(0)
    shape = (3, cell["size"], cell["size"])
    model = glows.Innverse(LEVELS, cell["depth"], HIDDEN, cell["memory"], shape=shape)
    x = glows.textures(cell["batch"], torch.Generator().manual_seed(1), shape=shape)
    x = x.contiguous(memory_format=torch.channels_last)
    model.prepare(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def gradient():
        loss = -model.log_prob(x).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()

    for _ in range(3):
        gradient()
        optimizer.step()
    timed = harness.seconds(gradient, warm_up=1, enough=cell["enough"])
    drift = getattr(model.flow.bijection.inner, "drift", None)
    return {
        **timed,
        "bytes": harness.peak_tensor_bytes(gradient) - sum(p.nbytes for p in model.parameters()),
        "drift": None if drift is None else float(drift),
    }


def text_of(rows: list[dict], variable: str) -> str:
    values = sorted({r[variable] for r in rows})
    lines = []
    for value in values:
        of = {r["memory"]: r for r in rows if r[variable] == value}
        line = [str(value)]
        line += [f"{of[m]['bytes'] * 1e-6:.1f}" for m in MODES]
        line += [f"{of[m]['seconds'] * 1e3:.0f}" for m in MODES]
        line += [f"{of[m]['seconds'] / of['store']['seconds']:.2f}" for m in MODES[1:]]
        drift = of["reversible"].get("drift")
        lines.append([*line, "-" if drift is None else f"{drift:.0e}"])
    header = [variable, *(f"{m} MB" for m in MODES), *(f"{m} ms" for m in MODES)]
    header += [f"{m} / store" for m in MODES[1:]] + ["drift"]
    return harness.table(header, lines)


def growth(rows: list[dict], mode: str, first: int, last: int) -> float:
    of = {r["depth"]: r["bytes"] for r in rows if r["memory"] == mode}
    return of[last] / of[first] - 1


def main() -> None:
    parser = harness.Arguments(__doc__, threads=0, rounds=(3, 1))
    args = parser.parse_args()
    rounds = args.rounds
    depths, sizes = ((2, 4), (32, 64)) if args.quick else (DEPTHS, SIZES)
    common = {"threads": args.threads, "enough": 0.3 if args.quick else 1.0}
    info = harness.machine(PACKAGES, args.threads)
    cells = [{"depth": k, "size": 32, "batch": 8, "memory": m} for k in depths for m in MODES]
    wide = [{"depth": depths[0], "size": s, "batch": 2, "memory": m} for s in sizes for m in MODES]
    full = [c | common for c in cells + wide]
    rows = harness.summaries(
        cells + wide, harness.interleaved(__file__, full, rounds, args.threads)
    )
    deep, large = rows[: len(cells)], rows[len(cells) :]
    first, last = depths[0 if args.quick else 1], depths[-1]
    grown = ", ".join(f"{m} {growth(deep, m, first, last):+.0%}" for m in MODES)
    text = "\n".join(
        [
            "# Memory against depth and size\n",
            harness.machine_text(info, PACKAGES, rounds),
            (
                f"Glow, L = {LEVELS}, hidden {HIDDEN}; the peak of the live tensors in a gradient, "
                "beyond parameters and their gradients; drift is the largest error of the rebuilt "
                "input.\n"
            ),
            f"## Depth K, 3x32x32, batch 8\n\n{text_of(deep, 'depth')}\n",
            f"From K = {first} to {last} memory grows: {grown}.\n",
            f"## Image size, K = {depths[0]}, batch 2\n\n{text_of(large, 'size')}\n",
        ]
    )
    print(text)
    out = args.out
    harness.write("memory", text, {"machine": info, "rounds": rounds, "cells": rows}, out)


if __name__ == "__main__":
    harness.start(main, measure)
