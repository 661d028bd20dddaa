"""Densities of 8x8 patches of photographs: a spline flow, zuko's, and a mixture of Gaussians.

    python benchmarks/patches.py --data natural_train.tar --subset bsds400 [--quick] [--budget 600]
        [--models innverse,zuko]

Patches as in Papamakarios et al. 2017: gray, dequantised, without their mean and last pixel, 63
dimensions, from photographs that are not those of the test. Everybody sees the same training
patches, whitened by their covariance (whose determinant is put back into every log-likelihood). The
flows get the same seconds of processor time on one thread and as nearly as possible the same number
of parameters; the mixture (200 components, full covariances) runs until EM converges,
or for 100 iterations.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import harness

PACKAGES = ("torch", "innverse", "zuko", "scikit-learn")
LAYERS, WIDTH, BINS, BOUND, BATCH, LR = 10, 192, 8, 5.0, 256, 2e-3
COMPONENTS, TEST_IMAGES = 200, 50


# ---- the models ---------------------------------------------------------------------------------


def _innverse(d: int):
    from innverse import flows

    flow = flows.build("nsf", (d,), layers=LAYERS, width=WIDTH, bins=BINS, bound=BOUND)
    return flow, flow.log_prob


def _zuko(passes: int | None):
    def build(d: int):
        import zuko

        def flow(width: int):
            options = {"passes": passes, "randperm": True, "hidden_features": (width, width)}
            return zuko.flows.NSF(d, transforms=LAYERS, bins=BINS, **options)

        # of all widths the one whose number of parameters is nearest to ours
        target = _count(_innverse(d)[0])
        low, high = 16, 1024
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _count(flow(middle)) <= target else (low, middle)
        chosen = flow(low)
        return chosen, lambda x: chosen().log_prob(x)

    return build


def _count(flow) -> int:
    return sum(p.numel() for p in flow.parameters())


FLOWS = {
    "innverse spline (coupling)": _innverse,
    "zuko NSF, coupling (passes=2)": _zuko(2),
    "zuko NSF, autoregressive (default)": _zuko(None),
}
MIXTURE = "Gaussian mixture"


# ---- one cell -----------------------------------------------------------------------------------


def measure(cell: dict) -> dict:

    harness.use(cell["threads"])
    train, test, constant = _whitened(cell)
    fit = _fit_mixture if cell["model"] == MIXTURE else _fit_flow
    score, result = fit(cell, train)
    log_p = score(test) + constant
    return result | {
        "test": log_p.mean().item(),
        "standard_error": (log_p.std() / math.sqrt(len(log_p))).item(),
        "train": (score(train[:20000]) + constant).mean().item(),
    }


def _whitened(cell: dict):
    """Training and test patches with unit covariance, and log|det| of the matrix that did it."""
    import torch

    from innverse.data import natural_patches, open_images, split

    images = open_images(cell["data"], subset=cell["subset"], channels=1)
    seen, unseen = split(images, min(TEST_IMAGES, len(images) // 4), 0)
    train = natural_patches(seen, cell["train_patches"], seed=0).double()
    test = natural_patches(unseen, cell["test_patches"], seed=1).double()
    variance, axes = torch.linalg.eigh(torch.cov(train.T))
    matrix = axes / variance.sqrt()
    return (train @ matrix).float(), (test @ matrix).float(), -0.5 * variance.log().sum()


def _fit_flow(cell: dict, train):
    import torch

    from innverse.bijections import initialize

    torch.manual_seed(cell["seed"])
    flow, log_prob = FLOWS[cell["model"]](train.shape[1])
    if cell["model"].startswith("innverse"):
        initialize(flow, train[:4096])
    draw = torch.Generator().manual_seed(cell["seed"])

    def loss():
        return -log_prob(train[torch.randint(len(train), (BATCH,), generator=draw)]).mean()

    options = {"lr": LR, "clip": 5.0, "warm_up": 100}
    trained = harness.train(flow.parameters(), loss, cell["budget"], **options)

    @torch.no_grad()
    def score(x):
        return torch.cat([log_prob(part).double() for part in x.split(1000)])

    return score, {"parameters": _count(flow), **trained}


def _fit_mixture(cell: dict, train):
    import torch
    from sklearn.mixture import GaussianMixture

    start = time.process_time()
    mixture = GaussianMixture(
        cell["components"], reg_covar=1e-5, max_iter=cell["iterations"], random_state=cell["seed"]
    )
    mixture.fit(train.double().numpy())
    seconds = time.process_time() - start
    k, d = cell["components"], train.shape[1]
    facts = {
        "parameters": k - 1 + k * d + k * d * (d + 1) // 2,
        "training_steps": mixture.n_iter_,
        "training_seconds": seconds,
        "em_converged": bool(mixture.converged_),
    }
    return lambda x: torch.from_numpy(mixture.score_samples(x.double().numpy())), facts


# ---- the report ---------------------------------------------------------------------------------


def text_of(rows: list[dict], info: dict, shared: dict) -> str:
    lines = []
    for row in sorted(rows, key=lambda r: -r.get("test", -math.inf)):
        if "error" in row:
            lines.append([row["model"], f"failed: {row['error'][:60]}", *[""] * 4])
            continue
        unit = "EM iterations" if row["model"] == MIXTURE else "steps"
        stopped = "" if row.get("em_converged", True) else ", not converged"
        lines.append(
            [
                row["model"],
                f"{row['test']:.2f} ± {row['standard_error']:.2f}",
                f"{row['train']:.2f}",
                f"{row['parameters'] / 1000:.0f}",
                f"{row['training_seconds']:.0f}",
                f"{row['training_steps']:.0f} {unit}{stopped}",
            ]
        )
    header = [
        "model", "test log-likelihood (nats)", "on training patches", "thousand parameters",
        "processor s", "effort",
    ]  # fmt: skip
    versions = ", ".join(f"{n} {info[n]}" for n in PACKAGES)
    return (
        "# 8x8 patches of photographs, 63 dimensions\n\n"
        f"{shared['train_patches']:,} training and {shared['test_patches']:,} test patches of "
        f"`{Path(shared['data']).name}` ({shared['subset']}), the test from {TEST_IMAGES} "
        f"photographs of its own; one thread, seed {shared['seed']}. Flows: {LAYERS} layers, "
        f"{BINS} bins on [-{BOUND:g}, {BOUND:g}], batches of {BATCH}, Adam at {LR:g} with half a "
        f"cosine. {info['processor']}; {versions}.\n\n"
        f"    python benchmarks/patches.py --data {Path(shared['data']).name} "
        f"--subset {shared['subset']} --budget {shared['budget']:g}\n\n"
        f"{harness.table(header, lines)}\n"
    )


def main() -> None:
    parser = harness.Arguments(__doc__)
    parser.add_argument("--data", required=True, help="folder or archive of photographs")
    parser.add_argument("--subset", default=None, help="a folder in it")
    parser.add_argument("--models", default=None, help="the beginnings of some names, by commas")
    parser.add_argument("--budget", type=float, default=None, help="processor seconds of training")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    asked = tuple(args.models.split(",")) if args.models else ("",)
    models = [name for name in (*FLOWS, MIXTURE) if name.startswith(asked)]
    shared = {
        "data": str(Path(args.data).resolve()),
        "subset": args.subset,
        "budget": args.budget or (3.0 if args.quick else 600.0),
        "train_patches": 5000 if args.quick else 200_000,
        "test_patches": 2000 if args.quick else 50_000,
        "components": 5 if args.quick else COMPONENTS,
        "iterations": 5 if args.quick else 100,
        "seed": args.seed,
        "threads": 1,  # processor time is only then the same for all
    }
    cells = [{"model": name} | shared for name in models]
    info = harness.machine(PACKAGES, 1)
    out = args.out
    rows: list[dict] = []
    for cell in cells:  # written after each: they take long, and with --models more come later
        name = {"data": Path(args.data).name}
        rows.append(cell | harness.run(__file__, cell, 1, timeout=6 * 3600) | name)
        found = rows
        if args.models:
            agree = {"budget": shared["budget"], "seed": shared["seed"]}
            found = harness.with_earlier("patches", rows, lambda r: r["model"], agree, out)
        text = text_of(found, info, shared)
        data = {"machine": info, "budget": shared["budget"], "seed": shared["seed"], "cells": found}
        harness.write("patches", text, data, out)
    print(text)


if __name__ == "__main__":
    harness.start(main, measure)
