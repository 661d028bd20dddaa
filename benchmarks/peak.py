"""How much of the machine's own convolution speed a training step of Glow reaches, and a profile.

    python benchmarks/peak.py [--quick] [--out FOLDER]

The peak is the best of a few large 3x3 convolutions in channels_last; the work of a step is counted
by `torch.utils.flop_counter`. The Glow is that of step.py: 3x32x32, L = 3, K = 8, hidden 128,
batch 32, float32. The file keeps the last run of each processor.
"""

from __future__ import annotations

import harness

PACKAGES = ("torch", "innverse", "FrEIA", "normflows")
LIBRARIES = ("innverse", "FrEIA", "normflows")


def convolution_peak(cell: dict) -> dict:
    """GFLOP/s of the best convolution."""
    import torch

    torch.set_num_threads(cell["threads"])
    best = 0.0
    for channels, size in ((128, 32), (256, 32), (256, 16)):
        conv = torch.nn.Conv2d(channels, channels, 3, padding=1)
        conv.to(memory_format=torch.channels_last)
        x = torch.randn(32, channels, size, size).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            timed = harness.seconds(lambda conv=conv, x=x: conv(x), enough=cell["enough"])
        work = 2 * 9 * channels**2 * x.shape[0] * size**2
        best = max(best, work / timed["fastest"] * 1e-9)
    return {"gflops": best}


def without_kernels():
    from unittest import mock

    return mock.patch("innverse.accelerate.native.perceptron._library", lambda: None)


def step(cell: dict) -> dict:
    """Seconds and GFLOP of a step, and where innverse's time goes."""
    from step import Training
    from torch.profiler import profile
    from torch.utils.flop_counter import FlopCounterMode

    training = Training(cell)
    timed = harness.seconds(training.step, warm_up=5, enough=cell["enough"])
    counter = FlopCounterMode(display=False)
    # it sees PyTorch's operations only: count the same products without innverse's own kernels
    with counter, without_kernels():
        training.step()
    result = {**timed, "gflop": counter.get_total_flops() * 1e-9}
    if cell["library"] == "innverse":
        with profile() as found:
            for _ in range(5):
                training.step()
        events = found.key_averages()
        total = sum(e.self_cpu_time_total for e in events)
        events = sorted(events, key=lambda e: -e.self_cpu_time_total)[:15]
        result["profile"] = [[e.key, e.self_cpu_time_total / total, e.count // 5] for e in events]
    return result


def main() -> None:
    parser = harness.Arguments(__doc__, threads=0, rounds=(3, 1))
    args = parser.parse_args()
    rounds = args.rounds
    common = {"threads": args.threads, "enough": 0.3 if args.quick else 2.0}
    cells = [{"kind": "peak"}]
    for name in LIBRARIES:
        layout = {} if name == "innverse" else {"layout": "channels_last"}
        cells.append({"kind": "step", "library": name, "steps": 2 if args.quick else 8, **layout})
    full = [c | common for c in cells]
    results = harness.interleaved(__file__, full, rounds, args.threads)
    profile = results[1][0].pop("profile", [])
    for found in results[1]:
        found.pop("profile", None)
    peak, *rows = harness.summaries(cells, results)
    for r in rows:
        r["share"] = r["gflop"] / r["seconds"] / peak["gflops"]
    info = harness.machine(PACKAGES, args.threads)
    run = {"machine": info, "rounds": rounds, "peak": peak, "cells": rows, "profile": profile}
    harness.write_by_processor("peak", "Share of the convolution peak", section, run, args.out)


def section(run: dict) -> str:
    """What one processor reached."""
    lines = [
        [
            r["library"],
            f"{r['seconds'] * 1e3:.1f}",
            f"{r['gflop']:.1f}",
            f"{r['gflop'] / r['seconds']:.0f}",
            f"{r['share']:.2f}",
        ]
        for r in run["cells"]
    ]
    spent = [[name, f"{share:.1%}", str(count)] for name, share, count in run["profile"]]
    return "\n".join(
        [
            harness.machine_text(run["machine"], PACKAGES, run["rounds"]),
            f"Best 3x3 convolution, float32, channels_last: {run['peak']['gflops']:.0f} GFLOP/s.\n",
            harness.table(["", "step ms", "GFLOP", "GFLOP/s", "share of the peak"], lines) + "\n",
            "Where a step of innverse spends its time:\n",
            harness.table(["operation", "share of time", "calls"], spent) + "\n",
        ]
    )


def measure(cell: dict) -> dict:
    return {"peak": convolution_peak, "step": step}[cell["kind"]](cell)


if __name__ == "__main__":
    harness.start(main, measure)
