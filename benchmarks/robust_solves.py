"""Five hundred random latent searches: no NaN, items independent, every failure reported as one.

    .venv/bin/python benchmarks/robust_solves.py [--data faces_test.tar --subset celebahq]
        [--cases 30] [--steps 20] [--dtype float64] [--out FOLDER]

A case draws an operator, its noise, gamma, the penalty, the start and its radius, and solves 16
pictures side by side and one of them alone: 17 searches. Extreme draws (gamma from 1e-6 to 100,
starts up to three times as long as a typical latent, noise up to 0.5) are part of it. In float64
both solutions of that picture must agree to 1e-4 dB; in float32 kernels round differently for
another batch size, which a long search on a rough density amplifies. A case that is done is not
run again: the file in --out grows line by line.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import torch
from torch import Tensor

from innverse import physics as P
from innverse.metrics import psnr
from innverse.solvers import solve
from innverse.solvers.starts import STARTS

BATCH = 16
AGREE = 1e-4  # dB


def draw(seed: int, shape: tuple[int, int, int]) -> tuple[P.LinearPhysics, dict[str, Any], str]:
    """A random operator with its noise, options of the search, and both in words."""
    g = torch.Generator().manual_seed(seed)

    def pick(values):
        return values[int(torch.randint(len(values), (), generator=g))]

    def log_uniform(low: float, high: float) -> float:
        u = float(torch.rand((), generator=g))
        return math.exp(math.log(low) + u * math.log(high / low))

    n = math.prod(shape)
    noise = pick([0.0, log_uniform(1e-3, 0.5)])
    ratio = log_uniform(0.008, 0.5)
    kind = pick(["cs", "denoising", "inpainting", "blur", "superresolution", "fourier"])
    if kind == "cs":
        physics = P.CompressedSensing(max(1, round(ratio * n)), shape, seed=seed)
    elif kind == "denoising":
        physics = P.Denoising(image_shape=shape)
    elif kind == "inpainting":
        physics = P.Inpainting.random(shape, ratio, g)
    elif kind == "blur":
        physics = P.Blur(P.gaussian_kernel(log_uniform(0.5, 3.0)), image_shape=shape)
    elif kind == "superresolution":
        physics = P.Downsampling(pick([2, 4]), shape)
    else:
        mask = P.cartesian_mask(shape[-2:], pick([2.0, 4.0, 8.0]), 0.08, seed)
        physics = P.SubsampledFourier(mask, image_shape=shape)
    physics.noise = P.GaussianNoise(noise) if noise else P.NoNoise()
    gammas = [0.0, log_uniform(1e-6, 100.0), *(["discrepancy"] if noise else [])]
    options = {
        "gamma": pick(gammas),
        "penalty": pick(["norm", "square"]),
        "start": pick(list(STARTS)),
        "radius": log_uniform(0.05, 3.0),
        "optimizer": pick(["lbfgs", "lbfgs", "adam"]),
        "seed": seed,
    }
    return physics, options, f"{kind} {ratio:.3f}, noise {noise:.3g}, {options}"


def run(seed: int, prior, x: Tensor, steps: int, sigma: float | None = None) -> dict[str, Any]:
    """Solve the images (16, C, H, W) of a random case together, and one of them alone."""
    physics, options, words = draw(seed, tuple(x.shape[1:]))
    physics = physics.to(x.dtype)
    y = physics(x, torch.Generator().manual_seed(seed))
    options |= {"steps": steps, "sigma": sigma}
    together = solve(y, physics, prior, "latent", **options)
    i = seed % len(x)
    # an item draws its start by its place
    alone = solve(y[i : i + 1], physics, prior, "latent", **options | {"seed": seed + i})
    difference = float((psnr(alone.x, x[i : i + 1]) - psnr(together.x, x)[i]).abs())
    finite = together.x.flatten(1).isfinite().all(1) & together.residual.cpu().isfinite()
    failed = torch.tensor([s.startswith("failed") for s in together.status])
    return {
        "seed": seed,
        "case": words,
        "solves": len(x) + 1,
        "not_finite": int((~finite).sum()) + int(not bool(alone.x.isfinite().all())),
        "failed": int(failed.sum()),
        # a failure that says "converged", or a success that is none
        "unreported": int(((failed | ~finite) & together.converged.cpu()).sum()),
        "statuses": sorted(set(together.status)),
        "difference_db": difference,
        "seconds": together.seconds + alone.seconds,
    }


def main() -> None:
    import harness

    import innverse
    from innverse.studies.reproduce.pictures import picture_sets

    parser = harness.Arguments(__doc__, threads=1, quick=False)
    parser.add_argument("--data", help="default: the faces inside scikit-image")
    parser.add_argument("--prior", default="faces64")
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    args = parser.parse_args()
    harness.use(args.threads)
    dtype = getattr(torch, args.dtype)
    x = next(iter(picture_sets(args.data, BATCH).values())).x.to(dtype)
    prior = innverse.load(args.prior).to(dtype)
    lines = (args.out or harness.RESULTS) / f"robust_solves_{args.dtype}.jsonl"
    lines.parent.mkdir(parents=True, exist_ok=True)
    records = [json.loads(s) for s in lines.read_text().splitlines()] if lines.is_file() else []
    for seed in range(len(records), args.cases):
        record = run(seed, prior, x, args.steps)
        records.append(record)
        with lines.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(json.dumps(record), file=sys.stderr, flush=True)
    total = {
        k: sum(r[k] for r in records) for k in ("solves", "not_finite", "failed", "unreported")
    }
    worst = max(r["difference_db"] for r in records)
    apart = sum(r["difference_db"] > AGREE for r in records)
    print(
        f"{args.dtype}, {len(records)} cases, {args.steps} steps: {total['solves']} solves, "
        f"{total['not_finite']} not finite, {total['failed']} failed, "
        f"{total['unreported']} of them unreported; alone against in a batch of {BATCH}: at most "
        f"{worst:.1e} dB apart, {apart} cases above {AGREE:g} dB"
    )


if __name__ == "__main__":
    main()
