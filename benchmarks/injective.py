"""Injective flows on known manifolds, and coarse codes in inverse problems.

    python benchmarks/injective.py [--data DIR] [--only sphere] [--quick]

Writes results/injective.json, cell by cell:

    sphere, roll   a density learned on a sphere without its pole, on a swiss roll in R^3: its KL
                   divergence to the known one, its integral over a mesh, log-likelihoods in R^3 beside
                   those of a full flow
    coarse         faces64, m/n = .2: maximum a posteriori, plain and from a search over the coarsest
                   latents (needs DIR with faces_test.tar)
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import harness
import torch
from torch import Tensor

import innverse
from innverse import flows, solve
from innverse.bijections import initialize
from innverse.data import fit, open_images
from innverse.metrics import psnr
from innverse.physics import FastCompressedSensing

SECONDS, BATCH = 30.0, 512  # of processor time of a training
NOISE = 0.01  # around the manifold
STEPS = 200  # of the plain search


# ---- manifolds of which everything is known: the chart a (B, 2) of N(0, I), its point, its area ----


def sphere(a: Tensor) -> Tensor:
    """The inverse stereographic projection, from the north pole."""
    square = a.square().sum(1, keepdim=True)
    return torch.cat([2 * a, square - 1], 1) / (1 + square)


def roll(a: Tensor) -> Tensor:
    """A swiss roll of a turn, about 2 across."""
    t = 3 * math.pi + 1.2 * a[:, 0]
    return torch.stack([t * t.cos() / 6, a[:, 1], t * t.sin() / 6], 1)


MANIFOLDS = {"sphere": sphere, "roll": roll}


def log_density(point, a: Tensor) -> Tensor:
    """log p of the points of a ~ N(0, I), with respect to area."""
    j = torch.func.vmap(torch.func.jacfwd(lambda a: point(a[None])[0]))(a)
    log_n = -0.5 * a.square().sum(1) - math.log(2 * math.pi)
    return log_n - 0.5 * torch.linalg.slogdet(j.mT @ j)[1]


def learned(point, seconds: float, **options):
    """An injective flow of so many seconds."""
    torch.manual_seed(0)
    flow = flows.build("injective", (3,), latent=2, steps=6, width=64, levels=1, tail_steps=10,
                       hidden=64, spread=0.02, **options)  # fmt: skip
    initialize(flow, point(torch.randn(4096, 2)))
    done = harness.train(
        flow.parameters(), lambda: flow.training_loss(point(torch.randn(BATCH, 2))), seconds,
        lr=3e-3, clip=10.0, warm_up=50,
    )  # fmt: skip
    return flow.eval(), done


def manifold(args, name: str) -> dict:
    """What the flow has learned, against what is known."""
    point, seconds = MANIFOLDS[name], 2.0 if args.quick else SECONDS
    flow, done = learned(point, seconds)
    flow.double()
    g = torch.Generator().manual_seed(1)
    a = torch.randn(200 if args.quick else 4000, 2, generator=g).double()
    x = point(a)
    with torch.no_grad():
        kl = log_density(point, a) - flow.log_prob(x)
        distance = flow.project(x)[1]
        integral = surface_integral(flow, 60 if args.quick else 300)
        # noise around the manifold: the flow's own width in the space of v, chosen on a training draw
        noisy = x + NOISE * torch.randn(x.shape, generator=g, dtype=x.dtype)
        fresh = point(torch.randn(2000, 2).double())
        fresh = fresh + NOISE * torch.randn_like(fresh)
        widths = [0.002 * 1.25**i for i in range(24)]
        width = max(widths, key=lambda w: float(flow.log_prob(fresh, noise=w).mean()))
        injective = flow.log_prob(noisy, noise=width).mean()
    full, full_done = full_flow(point, seconds)
    with torch.no_grad():
        plain = full.double().log_prob(noisy).mean()
    return {
        **done, "parameters": flow.n_parameters, "kl_nats": float(kl.mean()),
        "kl_standard_error": float(kl.std() / len(kl) ** 0.5), "integral": integral,
        "rms_distance": float(distance.square().mean().sqrt()), "noise": NOISE,
        "nats_with_noise_injective": float(injective), "nats_with_noise_full": float(plain),
        "full_parameters": full.n_parameters, "full_training_steps": full_done["training_steps"],
    }  # fmt: skip


def full_flow(point, seconds: float):
    """A spline flow of R^3 of about as many parameters, on draws with noise."""
    torch.manual_seed(0)

    def noisy(n: int) -> Tensor:
        return point(torch.randn(n, 2)) + NOISE * torch.randn(n, 3)

    flow = flows.build("nsf", (3,), layers=10, width=64)
    initialize(flow, noisy(4096))
    loss = lambda: -flow.log_prob(noisy(BATCH)).mean()  # noqa: E731
    done = harness.train(flow.parameters(), loss, seconds, lr=3e-3, clip=10.0, warm_up=50)
    return flow.eval(), done


def surface_integral(flow, n: int) -> float:
    """Of exp log_prob over triangles of the learned surface, whose areas come from their corners."""
    axis = torch.linspace(-6, 6, n, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    corners = flow.decode(z).view(n, n, 3)
    p, q, s, t = corners[:-1, :-1], corners[1:, :-1], corners[:-1, 1:], corners[1:, 1:]
    areas = [
        torch.linalg.cross(b - a, c - a).norm(dim=-1) / 2 for a, b, c in ((p, q, s), (t, s, q))
    ]
    density = flow.log_prob(corners.view(-1, 3)).exp().view(n, n)
    d = [density[:-1, :-1], density[1:, :-1], density[:-1, 1:], density[1:, 1:]]
    total = areas[0] * (d[0] + d[1] + d[2]) / 3 + areas[1] * (d[3] + d[2] + d[1]) / 3
    return float(total.sum())


# ---- inverse problems ------------------------------------------------------------------------------


def coarse(args) -> dict | None:
    """Quality against evaluations, from z = 0 and from the best image of the coarsest latents."""
    if args.data is None:
        return None
    source = open_images(str(args.data / "faces_test.tar"), subset="celebahq", channels=3)
    x = torch.cat(
        [fit(source[i][None].float() / 255, (64, 64)) for i in range(2 if args.quick else 6)]
    )
    n = x[0].numel()
    physics = FastCompressedSensing(n // 5, (3, 64, 64), seed=0, noise=NOISE)
    y = physics(x, torch.Generator().manual_seed(0))
    prior, rows = innverse.load("faces64"), []

    def row(name: str, found, before=None, **more) -> None:
        evaluations = found.evaluations.double().mean() + (0 if before is None else before)
        rows.append({"search": name, "psnr": float(psnr(found.x, x).mean()),
                     "evaluations": float(evaluations), **more})  # fmt: skip
        print(rows[-1], flush=True)

    few = 10 if args.quick else None
    for steps in (STEPS // 4, STEPS // 2, STEPS):
        row("map", solve(y, physics, prior, "map", steps=few or steps, noise=NOISE), steps=steps)
    for levels in (1, 2, 3):
        generator = prior.at(0.02).coarse(levels)
        for first in (15, 40):
            found = solve(y, physics, generator, "latent", steps=few or first, noise=NOISE)
            latents = generator.latent_shape[0]
            row("coarse", found, latents=latents, steps=first)
            spent = float(found.evaluations.double().mean())
            then = solve(y, physics, prior, "map", init=found.x, sigma=0.01, steps=few or STEPS // 4,
                         noise=NOISE)  # fmt: skip
            row("coarse, then map", then, spent, latents=latents, steps=first + STEPS // 4)
    return {"pictures": len(x), "measurements": n // 5, "noise": NOISE, "rows": rows}


CELLS = {
    **{name: (lambda args, name=name: manifold(args, name)) for name in MANIFOLDS},
    "coarse": coarse,
}


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1)
    parser.add_argument("--data", type=Path, help="folder with faces_test.tar")
    parser.add_argument("--only", choices=CELLS, help="run this cell, and keep the others")
    args = parser.parse_args()
    harness.use(args.threads)
    path = (args.out or harness.RESULTS) / "injective.json"
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for cell, measure in CELLS.items():
        if args.only != cell if args.only else cell in found:
            continue
        started = time.process_time()
        if (result := measure(args)) is not None:
            about = {"machine": harness.machine(("torch", "innverse"), args.threads)}
            found[cell] = about | {"processor_seconds": time.process_time() - started} | result
            print(cell, json.dumps(result), flush=True)
            harness.write_atomically(path, found)


if __name__ == "__main__":
    main()
