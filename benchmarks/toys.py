"""Neural spline flows on the toys in the plane, here and in two other libraries: who is how close?

    python benchmarks/toys.py [--quick] [--flows "innverse spline,innverse maf"]
        [--toys rings] [--budget 45]

Every flow gets the same seconds of processor time on one thread (what it needs to draw its fresh
samples included), Adam with half a cosine, and as many layers of the same width and bins. Held-out
points and entropy are exact, so nll - entropy is a Kullback-Leibler divergence but for the luck of
the points; `paired` is the mean of log p - log q over the same points, without that luck. The integral
of the density over a grid says whether the density is one. It misses the mass of features thinner
than a cell of the grid: read it beside the loss.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import harness

PACKAGES = ("torch", "innverse", "zuko", "normflows")
HELD_OUT, BATCH, LR, BINS, BOUND = 100_000, 512, 3e-3, 16, 5.0
LAYERS, WIDTH = 6, 128
BOX = 8.0  # the density is summed over [-BOX, BOX]^2
VIEW = 4.5  # the pictures show [-VIEW, VIEW]^2


# ---- the flows ----------------------------------------------------------------------------------


def _ours(name: str, **options):
    def build():
        from innverse import flows

        flow = flows.build(name, (2,), layers=LAYERS, width=WIDTH, **options)
        return flow, flow.log_prob, flow.sample

    return build


def _zuko():
    import torch
    import zuko

    flow = zuko.flows.NSF(2, transforms=LAYERS, bins=BINS, hidden_features=(WIDTH, WIDTH))
    # its splines live on [-5, 5], where the toys lie as well
    return flow, lambda x: flow().log_prob(x), lambda n: flow().sample(torch.Size([n]))


def _normflows():
    import normflows as nf

    steps = []
    for _ in range(LAYERS):
        options = {"num_bins": BINS, "tail_bound": BOUND}
        steps.append(nf.flows.CoupledRationalQuadraticSpline(2, 2, WIDTH, **options))
        steps.append(nf.flows.Permute(2, mode="swap"))
    flow = nf.NormalizingFlow(nf.distributions.base.DiagGaussian(2, trainable=False), steps)
    return flow, flow.log_prob, lambda n: flow.sample(n)[0]


# In the plane the two coordinates take turns: the edges of the checkerboard stay straight. A random
# permutation of two may be none, so RealNVP mixes by matrices.
FLOWS = {
    "innverse spline": _ours(
        "nsf", bins=BINS, bound=BOUND, mix="swap", norm=False, activation="relu"
    ),
    "zuko NSF": _zuko,
    "normflows RQ-NSF": _normflows,
    "innverse realnvp": _ours("realnvp", mix="lu"),
    "innverse nice": _ours("nice"),
    "innverse maf": _ours("maf"),
    "innverse iaf": _ours("iaf"),
}
SPLINES = tuple(FLOWS)[:3]


# ---- one cell -----------------------------------------------------------------------------------


def measure(cell: dict) -> dict:
    import torch

    from innverse.bijections import initialize
    from innverse.data import toys

    harness.use(cell["threads"])
    torch.manual_seed(cell["seed"])
    toy, draw = cell["toy"], torch.Generator().manual_seed(1000 + cell["seed"])
    held_out = toys.sample(toy, HELD_OUT, torch.Generator().manual_seed(1))
    flow, log_prob, sample = FLOWS[cell["flow"]]()
    if cell["flow"].startswith("innverse"):
        initialize(flow, toys.sample(toy, 4096, draw))

    def loss():
        return -log_prob(toys.sample(toy, BATCH, draw)).mean()

    trained = harness.train(flow.parameters(), loss, cell["budget"], lr=LR, clip=10.0)

    flow.eval()
    with torch.no_grad():
        drawn = sample(4000)
        flow.double()

        def density(points):
            return torch.cat([log_prob(part) for part in points.split(1 << 15)])

        log_q = density(held_out.double())
        total = density(_grid(BOX, cell["grid"])).exp().sum() * (2 * BOX / cell["grid"]) ** 2
        if cell["save"]:
            picture = density(_grid(VIEW, 200)).exp().view(200, 200)
            _save(cell, picture.numpy(), drawn.float().numpy())
    entropy = toys.entropy(toy)
    nll = -log_q.mean().item()
    return {
        "entropy": entropy,
        "nll": nll,
        "gap": nll - entropy,
        "paired": (toys.log_prob(toy, held_out.double()) - log_q).mean().item(),
        "integral": total.item(),
        **trained,
        "parameters": sum(p.numel() for p in flow.parameters()),
    }


def _grid(half: float, side: int):
    """Centres of the cells of [-half, half]^2, (side^2, 2)."""
    import torch

    axis = (torch.arange(side, dtype=torch.float64) + 0.5) * (2 * half / side) - half
    return torch.cartesian_prod(axis, axis)


def _file(folder: str, toy: str, flow: str) -> Path:
    return Path(folder) / f"{toy}-{flow}.npz".replace(" ", "_")


def _save(cell: dict, density, samples) -> None:
    import numpy as np

    np.savez(_file(cell["save"], cell["toy"], cell["flow"]), density=density, samples=samples)


# ---- the report ---------------------------------------------------------------------------------


def picture(folder: str, toy_names: list[str], names: list[str], path: Path) -> None:
    """A row for each toy: the exact density, then density and samples of every flow."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    from innverse.data import toys

    columns = 1 + 2 * len(names)
    figure, axes = plt.subplots(
        len(toy_names), columns, figsize=(1.9 * columns, 1.9 * len(toy_names) + 0.3),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for row, toy in zip(axes, toy_names, strict=True):
        exact = toys.log_prob(toy, _grid(VIEW, 200)).exp().view(200, 200).numpy()
        style = {"extent": (-VIEW, VIEW, -VIEW, VIEW), "origin": "lower", "cmap": "magma"}
        style |= {"vmin": 0, "vmax": float(np.quantile(exact, 0.995))}
        row[0].imshow(exact.T, **style)
        for name, left, right in zip(names, row[1::2], row[2::2], strict=True):
            if (file := _file(folder, toy, name)).exists():
                saved = np.load(file)
                left.imshow(saved["density"].T, **style)
                right.plot(*saved["samples"].T, ",", color="black", alpha=0.6)
            right.set(xlim=(-VIEW, VIEW), ylim=(-VIEW, VIEW), aspect="equal")
        row[0].set_ylabel(toy)
    titles = ["exact", *(f"{name}: {what}" for name in names for what in ("density", "samples"))]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=75)
    plt.close(figure)


def text_of(rows: list[dict], toy: str) -> str:
    """One table: a line per flow."""
    lines, entropy = [], None
    for row in rows:
        if "error" in row:
            lines.append([row["flow"], f"failed: {row['error'][:60]}", *[""] * 5])
            continue
        entropy = row["entropy"]
        lines.append(
            [
                row["flow"],
                f"{row['gap']:.4f}",
                f"{row['paired']:.4f}",
                f"{row['integral']:.4f}",
                f"{row['training_seconds']:.0f}",
                f"{row['training_steps']}",
                f"{row['parameters'] / 1000:.0f}",
            ]
        )
    header = [
        "flow", "nll - entropy", "paired", "integral of q", "processor s", "steps",
        "thousand parameters",
    ]  # fmt: skip
    known = "" if entropy is None else f", entropy {entropy:.4f} nats"
    return f"## {toy}{known}\n\n{harness.table(header, lines)}\n"


def main() -> None:
    from innverse.data import toys

    parser = harness.Arguments(__doc__)
    parser.add_argument("--flows", default=",".join(SPLINES), help=f"among {', '.join(FLOWS)}")
    parser.add_argument("--toys", default=",".join(toys.names()), help="comma-separated names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=None, help="processor seconds of training")
    args = parser.parse_args()
    names, toy_names = args.flows.split(","), args.toys.split(",")
    for asked, known in ((names, list(FLOWS)), (toy_names, toys.names())):
        if unknown := [n for n in asked if n not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    budget = args.budget or (1.0 if args.quick else 45.0)
    threads = 1  # processor time is only then the same for all
    info = harness.machine(PACKAGES, threads)
    out = args.out or harness.RESULTS
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        cells = [
            {
                "flow": name, "toy": toy, "seed": args.seed, "budget": budget,
                "grid": 200 if args.quick else 800, "threads": threads,
                "save": folder if name in SPLINES else None,
            }
            for toy in toy_names
            for name in names
        ]  # fmt: skip
        found = harness.interleaved(__file__, cells, 1, threads)
        picture(folder, toy_names, [n for n in names if n in SPLINES], out / "toys.png")
    rows = [cell | results[0] for cell, results in zip(cells, found, strict=True)]
    for row in rows:
        del row["save"]
    versions = ", ".join(f"{n} {info[n]}" for n in PACKAGES)
    parts = [
        "# Toys in the plane\n",
        (
            f"{budget:g} s of processor time (one thread) for everybody: fresh samples in batches "
            f"of {BATCH}, Adam at {LR:g} with half a cosine, {LAYERS} layers of width {WIDTH}, "
            f"{BINS} bins on [-{BOUND:g}, {BOUND:g}], seed {args.seed}; {HELD_OUT:,} held-out "
            f"points, losses in nats, in float64. zuko's NSF is its default, autoregressive. "
            f"{info['processor']}; {versions}.\n"
        ),
        "![Densities and samples](toys.png)\n",
        *(text_of([r for r in rows if r["toy"] == toy], toy) for toy in toy_names),
    ]
    text = "\n".join(parts)
    print(text)
    harness.write("toys", text, {"machine": info, "budget": budget, "cells": rows}, out)


if __name__ == "__main__":
    harness.start(main, measure)
