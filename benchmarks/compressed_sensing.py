"""Compressed sensing of 64x64 pictures with the prior of faces, beside the Lasso and TV.

    .venv/bin/python benchmarks/compressed_sensing.py faces_test.tar --tune faces64_train.tar
        [--sets celebahq ffhq birds12 flowers12] [--ratios 0.2] [--images 4] [--out FOLDER]

The protocol of Asim et al. 2020: A Gaussian with variance 1/m, noise 0.1/sqrt(m) per measurement.
The flow is searched from z = 0 with gamma = 0 by L-BFGS; the weights of the Lasso and of TV are
chosen on ``--tune`` pictures for every ratio.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from pathlib import Path

import harness
import torch
import torch.nn.functional as F

import innverse
from innverse.data import open_images
from innverse.metrics import psnr
from innverse.physics import CompressedSensing
from innverse.solvers.baselines import lasso, tv

SIDE = 64
LASSO_WEIGHTS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TV_WEIGHTS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


def pictures(data: str, subset: str | None, n: int) -> torch.Tensor:
    """The first n, area-averaged to 64x64, (n, 3, 64, 64)."""
    source = open_images(data, subset=subset, channels=3)
    found = [source[i].float()[None] / 255 for i in range(min(n, len(source)))]
    return torch.cat([F.adaptive_avg_pool2d(x, SIDE) for x in found])


def decibels(found: torch.Tensor, x: torch.Tensor) -> list[float]:
    return psnr(found.clamp(0, 1), x).tolist()


def best_weight(solver, y, physics, x, weights) -> float:
    """The weight with the highest mean PSNR."""
    return max(weights, key=lambda w: sum(decibels(solver(y, physics, w), x)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--tune", required=True)
    parser.add_argument("--sets", nargs="+", default=["celebahq", "ffhq", "birds12", "flowers12"])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.2])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--prior", default="faces64")
    parser.add_argument("--sigma", type=float, default=0.02, help="at which the prior is taken")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=None, help="folder (default: results)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    flow = innverse.load(args.prior)
    tuning = pictures(args.tune, None, 4)
    cells, lines = [], []
    for ratio in args.ratios:
        m = round(ratio * 3 * SIDE**2)
        noise = 0.1 / math.sqrt(m)
        physics = CompressedSensing(m, (3, SIDE, SIDE), seed=0, noise=noise)
        y = physics(tuning, generator=torch.Generator().manual_seed(1))
        solvers = {"lasso_dct": lambda y, physics, w: lasso(y, physics, w, "dct"), "tv": tv}
        weights = {
            "lasso_dct": best_weight(solvers["lasso_dct"], y, physics, tuning, LASSO_WEIGHTS),
            "tv": best_weight(solvers["tv"], y, physics, tuning, TV_WEIGHTS),
        }
        for name in args.sets:
            x = pictures(args.data, name, args.images)
            y = physics(x, generator=torch.Generator().manual_seed(2))
            begin = time.perf_counter()
            r = innverse.solve(y, physics, flow, "latent", sigma=args.sigma, steps=args.steps)
            seconds = (time.perf_counter() - begin) / len(x)
            found = {"flow": decibels(r.x, x)}
            found |= {n: decibels(s(y, physics, weights[n]), x) for n, s in solvers.items()}
            cell = {"set": name, "ratio": ratio, "n": len(x), "weights": weights}
            cell |= {"psnr": found, "seconds_per_image": seconds}
            cell |= {"z_norm": r.z_norm.tolist(), "evaluations": r.evaluations.tolist()}
            cells.append(cell)
            means = [f"{sum(v) / len(v):.2f}" for v in found.values()]
            lines.append([f"{name}, m/n = {ratio:g}", str(len(x)), *means, f"{seconds:.1f}"])
            print(lines[-1], file=sys.stderr, flush=True)
    info = harness.machine(("torch", "innverse"), args.threads)
    header = ["", "images", args.prior, "Lasso-DCT", "TV", "seconds per image"]
    text = "\n".join(
        [
            "# Compressed sensing\n",
            harness.machine_text(info, ("torch", "innverse"), 1),
            (
                f"PSNR in dB of the first {args.images} pictures of each set of "
                f"{Path(args.data).name}, 64x64; prior at sigma {args.sigma:g}, {args.steps} L-BFGS "
                "steps from z = 0, gamma 0; A from seed 0, noise from seed 2.\n"
            ),
            harness.table(header, lines) + "\n",
        ]
    )
    print(text)
    data = {"machine": info, "prior": args.prior, "cells": cells}
    harness.write("compressed_sensing", text, data, args.out)


if __name__ == "__main__":
    main()
