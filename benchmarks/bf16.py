"""Does training with bfloat16 networks cost likelihood? The same training twice, over several seeds.

    python benchmarks/bf16.py [--quick] [--seeds 3] [--steps 600] [--out FOLDER]

Glow 3x32x32, L = 3, K = 4, hidden 64 on random 1/f pictures; Adam with warm-up; held-out bits/dim
are computed in float32 in both cases, on the same 512 pictures.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from pathlib import Path

import harness

PACKAGES = ("torch", "innverse")


def train(cell: dict) -> dict:
    import glows
    import torch

    from innverse import nets

    torch.set_num_threads(cell["threads"])
    torch.set_flush_denormal(True)
    torch.manual_seed(cell["seed"])
    model = glows.Innverse(3, 4, 64, bf16=cell["bf16"])
    model.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(cell["seed"])

    def batch(n: int):
        return glows.textures(n, generator).contiguous(memory_format=torch.channels_last)

    model.prepare(batch(64))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    begin = time.perf_counter()
    for i in range(cell["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (i + 1) / 50, 2 * (1 - i / cell["steps"]))
        loss = -model.log_prob(batch(32)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e3)
        optimizer.step()
    took = time.perf_counter() - begin
    nets.set_precision(model, "fp32").eval()
    generator = torch.Generator().manual_seed(10_000)
    x = batch(512)
    with torch.inference_mode():
        log_p = torch.cat([model.log_prob(part) for part in x.split(64)])
    return {"bits_per_dim": 8 - log_p.mean().item() / x[0].numel() / math.log(2), "took": took}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short: does it run?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=None, help="folder (default: results)")
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
    harness.write("bf16", text, data, args.out or (Path("runs/bench") if args.quick else None))


if __name__ == "__main__":
    asked = harness.cell()
    if asked is None:
        main()
    else:
        harness.answer(train(asked))
