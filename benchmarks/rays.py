"""How fast are rays followed? A and its adjoint of a fan beam, beside deepinv and diffct.

    python benchmarks/rays.py            four pictures of 256x256, 180 views over a full turn
    python benchmarks/rays.py --quick    that it runs, in seconds

The source is two widths of the picture before the axis, the detector one behind it, its bins one pixel
wide and as many as see the whole slice: the same for all. What a library makes once for a geometry (our
matrix), or imports, is in its first time. Seconds are those of the processor, the middle of three.
What is not installed is left out, and said; diffct without CUDA runs on its PyTorch backend.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import harness

# each is given the side of the picture, views and bins, and returns x -> A^T A x, (B, 1, side, side)


def ours(side: int, views: int, bins: int) -> Callable:
    from innverse.physics import Tomography

    physics = Tomography((1, side, side), views, bins, source=2.0 * side, detector=1.0 * side)
    return lambda x: physics.A_adjoint(physics.A(x))


def deepinv(side: int, views: int, bins: int) -> Callable:
    from deepinv.physics import Tomography

    fan = {
        "pixel_spacing": 1.0,
        "source_radius": 2.0 * side,
        "detector_radius": 1.0 * side,
        "n_detector_pixels": bins,
        "detector_spacing": 1.0,
    }
    physics = Tomography(views, side, fan_beam=True, fan_parameters=fan, normalize=False)
    return lambda x: physics.A_adjoint(physics.A(x))


def diffct(side: int, views: int, bins: int) -> Callable:
    from diffct import Projector, circular_trajectory_2d_fan

    path = circular_trajectory_2d_fan(views, sid=2.0 * side, sdd=3.0 * side, device="cpu")
    physics = Projector(path, (side, side), bins, beam="fan", backend="torch")
    return lambda x: physics.backproject(physics.project(x))


LIBRARIES: dict[str, Callable] = {"innverse": ours, "deepinv": deepinv, "diffct": diffct}


def speed(quick: bool) -> Iterator[dict]:
    """A row of each library that is installed."""
    import torch

    side, views, batch, bins = (32, 12, 2, 73) if quick else (256, 180, 4, 581)
    x = torch.rand(batch, 1, side, side, generator=torch.Generator().manual_seed(0))
    for name, make in LIBRARIES.items():
        started = time.process_time()
        try:
            step = make(side, views, bins)
            step(x)
        except ImportError as error:
            print(f"{name}: {error}", flush=True)
            continue
        made = time.process_time() - started
        times = []
        for _ in range(3):
            begin = time.process_time()
            step(x)
            times.append(time.process_time() - begin)
        took = {"seconds": sorted(times)[1]}
        about = {"library": name, "side": side, "views": views, "bins": bins, "batch": batch}
        print(f"{name}: {took['seconds']:.3f} s, the first time {made:.2f} s", flush=True)
        yield about | took | {"first": made}


def main() -> None:
    args = harness.Arguments(__doc__, threads=1).parse_args()
    harness.use(args.threads)
    machine = harness.machine(("torch", "innverse", "deepinv", "diffct"), args.threads)
    rows: list[dict] = []
    for row in speed(args.quick):
        rows.append(row)
        harness.write("rays", page(rows, machine), {"machine": machine, "rows": rows}, args.out)


def page(rows: list[dict], machine: dict) -> str:
    least = rows[0]["seconds"]
    body = [
        [r["library"], f"{r['seconds']:.3f}", f"{r['seconds'] / least:.1f}", f"{r['first']:.2f}"]
        for r in rows
    ]
    head = ["library", "s", "times ours", "first time, s"]
    return (
        f"# Rays\n\n{(__doc__ or '').strip()}\n\n{harness.table(head, body)}\n\n"
        f"{machine['processor']}, {machine['threads']} thread.\n"
    )


if __name__ == "__main__":
    main()
