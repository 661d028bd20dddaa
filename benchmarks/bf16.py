"""Does training with bfloat16 networks cost likelihood? The same training twice, over several seeds.

    python benchmarks/bf16.py [--quick] [--seeds 3] [--steps 600] [--out FOLDER]

Glow 3x32x32, L = 3, K = 4, hidden 64 on random 1/f pictures by `innverse.fit`; held-out bits/dim
are computed in float32 in both cases, on the same 512 pictures.
"""

from __future__ import annotations

import math
import statistics
import time

import harness

PACKAGES = ("torch", "innverse")


def train(cell: dict) -> dict:
    import glows
    import torch

    import innverse

    harness.use(cell["threads"])
    torch.manual_seed(cell["seed"])
    model = glows.Innverse(3, 4, 64)
    model.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(cell["seed"])

    def batch(n: int):
        return glows.textures(n, generator).contiguous(memory_format=torch.channels_last)

    x, held_out = batch(32 * cell["steps"]), batch(64)
    options = {"precision": "bf16" if cell["bf16"] else "fp32", "weight_decay": 0.0}
    options |= {"batch_size": 32, "max_epochs": 1, "average": 0.02, "progress": False}
    begin = time.perf_counter()
    innverse.fit(model.flow, x, held_out=held_out, **options)
    took = time.perf_counter() - begin
    generator = torch.Generator().manual_seed(10_000)
    x = batch(512)
    with torch.inference_mode():
        log_p = torch.cat([model.log_prob(part) for part in x.split(64)])
    return {"bits_per_dim": 8 - log_p.mean().item() / x[0].numel() / math.log(2), "took": took}


def main() -> None:
    parser = harness.Arguments(__doc__, threads=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args()
    steps, seeds = (10, 1) if args.quick else (args.steps, args.seeds)
    cells = [{"seed": s, "bf16": b, "steps": steps} for s in range(seeds) for b in (False, True)]
    full = [c | {"threads": args.threads} for c in cells]
    rows = harness.summaries(cells, harness.interleaved(__file__, full, 1, args.threads))
    value = {(r["seed"], r["bf16"]): r["bits_per_dim"] for r in rows}
    lost = [value[s, True] - value[s, False] for s in range(seeds)]
    lines = [
        [str(s), f"{value[s, False]:.4f}", f"{value[s, True]:.4f}", f"{lost[s]:+.4f}"]
        for s in range(seeds)
    ]
    info = harness.machine(PACKAGES, args.threads)
    text = "\n".join(
        [
            "# Likelihood with bfloat16 networks\n",
            harness.machine_text(info, PACKAGES, 1),
            f"{steps} steps of batch 32; held-out bits/dim, computed in float32.\n",
            harness.table(["seed", "float32", "bf16 networks", "difference"], lines) + "\n",
            f"Mean difference {statistics.mean(lost):+.4f} bits/dim.\n",
        ]
    )
    print(text)
    data = {"machine": info, "cells": rows, "difference": statistics.mean(lost)}
    harness.write("bf16", text, data, args.out)


if __name__ == "__main__":
    harness.start(main, train)
