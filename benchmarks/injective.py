"""Injective flows on known manifolds, and coarse codes in inverse problems.

    python benchmarks/injective.py [--data DIR] [--models RUNS] [--only sphere] [--quick]

Writes results/injective.json, cell by cell:

    sphere, roll   a density learned on a sphere without its pole, on a swiss roll in R^3: its KL
                   divergence to the known one, its integral over a mesh, log-likelihoods in R^3 beside
                   those of a full flow
    coarse         faces64, m/n = .2: maximum a posteriori, plain and begun cheaply in three ways (needs
                   DIR with faces_test.tar)
    faces          reconstruction and Frechet distance of injective flow, VAE and GAN of as many latents
                   (needs DIR too, and RUNS with faces64-injective-64, ... of `innverse train`)
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
from innverse.metrics import frechet, psnr
from innverse.metrics.features import RandomFeatures
from innverse.physics import FastCompressedSensing
from innverse.studies.compare.codes import closest
from innverse.studies.compare.contestants import Contestant

SECONDS, BATCH = 60.0, 512  # of processor time of a training
NOISE = 0.01  # around the manifold
OFF = 0.1  # from the learned surface: a tenth of the way to the next turn of the roll
STEPS = (50, 100)  # of the plain search
LAST = 0.01  # the noise level of the prior where it ends


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


def learned(point, seconds: float):
    """An injective flow of so many seconds, two thirds of them for the manifold, then its density."""
    flow, done = None, {}
    options = {"latent": 2, "steps": 6, "width": 64, "levels": 1, "tail_steps": 10, "hidden": 64}
    for training, share in (("manifold", 2 / 3), ("density", 1 / 3)):
        torch.manual_seed(0)
        before = flow
        flow = flows.build("injective", (3,), spread=0.02, training=training, **options)
        if before is None:
            initialize(flow, point(torch.randn(4096, 2)))
        else:
            flow.load_state_dict(before.state_dict())
        moving = [p for p in flow.parameters() if p.requires_grad]
        loss = lambda flow=flow: flow.training_loss(point(torch.randn(BATCH, 2)))  # noqa: E731
        found = harness.train(moving, loss, share * seconds, lr=3e-3, clip=10.0, warm_up=50)
        done = {name: done.get(name, 0) + value for name, value in found.items()}
    return flow.eval(), done


def manifold(args, name: str) -> dict:
    """What the flow has learned, against what is known."""
    point, seconds = MANIFOLDS[name], 0.2 if args.quick else SECONDS
    flow, done = learned(point, seconds)
    flow.double()
    g = torch.Generator().manual_seed(1)
    a = torch.randn(50 if args.quick else 4000, 2, generator=g).double()
    x = point(a)
    with torch.no_grad():
        kl = log_density(point, a) - flow.log_prob(x)
        distance = flow.project(x)[1]
        integral, reached = surface_integral(flow, point, 20 if args.quick else 200)
        noisy = x + NOISE * torch.randn(x.shape, generator=g, dtype=x.dtype)
        # its most likely width, on training draws: what the manifold misses comes to the noise
        fresh = point(torch.randn(len(x) // 4, 2, generator=g).double())
        fresh = fresh + NOISE * torch.randn(fresh.shape, generator=g, dtype=x.dtype)
        width = float(flow.project(fresh, steps=50)[1].square().mean().sqrt())
        injective = flow.log_prob(noisy, width)
    full, full_done = full_flow(point, seconds)
    with torch.no_grad():
        plain = full.double().log_prob(noisy)
    but_one = injective > injective.min()
    return {
        **done, "parameters": flow.n_parameters, "kl_nats": float(kl.mean()),
        "kl_standard_error": float(kl.std() / len(kl) ** 0.5), "integral": integral,
        "integral_where_reached": reached,
        "rms_distance": float(distance.square().mean().sqrt()),
        "largest_distance": float(distance.max()), "noise": NOISE, "noise_fitted": width,
        "nats_with_noise_injective": float(injective.mean()),
        "nats_with_noise_full": float(plain.mean()),
        "nats_but_for_the_worst_injective": float(injective[but_one].mean()),
        "nats_but_for_the_worst_full": float(plain[but_one].mean()),
        "difference_standard_error": float((injective - plain).std() / len(x) ** 0.5),
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


def surface_integral(flow, point, n: int) -> tuple[float, float]:
    """Of exp log_prob over triangles of the learned surface, whose areas come from their corners: of
    all of them, and of those whose corners the flow has learned to reach.

    These are where a grid of the known chart projects to: the flow's own chart has no part in it. The
    grid holds all but 1e-4 of the mass. A corner beyond what was learned projects to another turn of
    the roll, where the mass is counted already.
    """
    axis = torch.linspace(-4, 4, n, dtype=torch.float64)
    corners, distance = flow.project(point(torch.cartesian_prod(axis, axis)))
    there = (distance < OFF).view(n, n)
    density = flow.log_prob(corners).exp().view(n, n)
    corners = corners.view(n, n, 3)
    total, reached, low, high = 0.0, 0.0, slice(None, -1), slice(1, None)
    for start in (low, high):
        one, two, three = (start, start), (low, high), (high, low)
        p, q, r = corners[one], corners[two], corners[three]
        area = torch.linalg.cross(q - p, r - p).norm(dim=-1) / 2
        whole = there[one] & there[two] & there[three]
        mass = area * (density[one] + density[two] + density[three]) / 3
        total += float(mass.sum())
        reached += float((whole * mass).sum())
    return total, reached


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

    def row(name: str, found, before: float = 0.0, **more) -> None:
        evaluations = found.evaluations.double().mean() + before
        rows.append({"search": name, "psnr": float(psnr(found.x, x).mean()),
                     "evaluations": float(evaluations), **more})  # fmt: skip
        print(rows[-1], flush=True)

    def then_map(name: str, first, steps: int, **more) -> None:
        """The plain search from ``first`` on, at its last level at once and by way of another."""
        spent = float(first.evaluations.double().mean())
        for levels in ([LAST], [3 * LAST, LAST]):
            found = solve(
                y, physics, prior, "map", init=first.x, sigma=levels, steps=steps, noise=NOISE
            )
            row(name, found, spent, levels=levels, steps=steps, **more)

    for steps in (2,) if args.quick else STEPS:
        row("map", solve(y, physics, prior, "map", steps=steps, noise=NOISE), steps=steps)
    many, few = (2, 2) if args.quick else (36, 12)
    for scales in (2,) if args.quick else (1, 2):
        generator = prior.at(0.02).coarse(scales)
        first = solve(y, physics, generator, "latent", steps=few, noise=NOISE)
        row("coarse", first, latents=generator.latent_shape[0], steps=few)
        then_map("coarse, then map", first, many, latents=generator.latent_shape[0])
    first = solve(y, physics, prior, "pnp", steps=few, views=1, noise=NOISE)
    row("pnp", first, steps=few)
    then_map("pnp, then map", first, many)
    first = solve(y, physics, prior.at(0.02), "latent", steps=few, noise=NOISE)
    row("all latents", first, steps=few)
    then_map("all latents, then map", first, many)
    return {"pictures": len(x), "measurements": n // 5, "noise": NOISE, "rows": rows}


# ---- faces -----------------------------------------------------------------------------------------


def faces(args) -> dict | None:
    """The trained ones there are, by what they make of test faces and how their samples are spread."""
    if args.data is None or args.models is None:
        return None
    source = open_images(str(args.data / "faces_test.tar"), subset="celebahq", channels=3)
    n, searched, steps = (2, 1, 2) if args.quick else (100, 24, 50)
    real = torch.cat([fit(source[i][None].float() / 255, (64, 64)) for i in range(n)])
    features, rows = RandomFeatures(real), []
    for folder in sorted(args.models.glob("faces64-*-*")):
        if not (folder / "model").exists():
            continue
        c, x = Contestant.load(folder), real[:searched]
        row = {"model": folder.name, "latents": c.model.latent_shape[0], **c.training,
               "parameters": c.model.n_parameters}  # fmt: skip
        if c.encodes:
            row["psnr_of_code"] = float(psnr(c.decode(c.encode(real)), real).mean())
        row["psnr_of_nearest"] = float(psnr(closest(c, x, 1, steps), x).mean())
        row["frechet"] = frechet(features(c.draw(10 * n, 1.0)), features(real))
        rows.append(row)
        print(row, flush=True)
    return {"pictures": n, "searched": searched, "steps": steps, "rows": rows,
            "frechet_floor": frechet(features(real[::2]), features(real[1::2]))}  # fmt: skip


CELLS = {
    **{name: (lambda args, name=name: manifold(args, name)) for name in MANIFOLDS},
    "coarse": coarse,
    "faces": faces,
}


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1)
    parser.add_argument("--data", type=Path, help="folder with faces_test.tar")
    parser.add_argument("--models", type=Path, help="folder of runs faces64-injective-64, ...")
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
