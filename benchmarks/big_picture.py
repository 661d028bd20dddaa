"""A picture of 12 megapixels with 30 % of its pixels missing: time, memory, seams.

    python benchmarks/big_picture.py [--megapixels 12] [--picture FILE] [--threads 2]

Without --picture a photograph of scikit-image, mirrored side by side up to the size, no crease where
tiles meet. The prior is natural-gray, the method "pnp" with its defaults, and a faster setting. Memory
is the peak of the whole process, which is a fresh one for each cell. A seam would be an error that is
larger next to the edges of tiles than elsewhere: their ratio is told.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import harness

CREASES = 200  # pixels, of the edges of tiles, which lie as far apart as the photograph is wide
SETTINGS = {"usual": {}, "fast": {"steps": 15, "views": 1}}
MISSING, NOISE, TILE = 0.3, 0.01, 512


def picture(file: str | None, pixels: int):
    """(1, 1, H, W) of about so many pixels, 4:3."""
    import torch
    from skimage.data import camera

    from innverse.data import read_image

    x = (
        torch.from_numpy(camera().copy())[None] / 255
        if file is None
        else read_image(file, "L").tensor
    )
    tall, wide = round((pixels * 3 / 4) ** 0.5), round((pixels * 4 / 3) ** 0.5)
    for axis, n in ((1, tall), (2, wide)):
        while x.shape[axis] < n + CREASES:
            x = torch.cat([x, x.flip(axis)], axis)
        x = x.narrow(axis, CREASES, n)
    return x[None]


def measure(cell: dict) -> dict:
    import torch

    import innverse
    from innverse.metrics import psnr
    from innverse.progress import Progress
    from innverse.solvers.tiling import _spans

    harness.use(cell["threads"])
    x = picture(cell["picture"], round(1e6 * cell["megapixels"]))
    g = torch.Generator().manual_seed(0)
    physics = innverse.physics.Inpainting.random(tuple(x.shape[1:]), 1 - MISSING, g, noise=NOISE)
    y, prior = physics(x, g), innverse.load("natural-gray")
    started = time.perf_counter()
    with Progress("restoring") as progress:
        found = innverse.solve(
            y, physics, prior, "pnp", progress=progress, **SETTINGS[cell["setting"]]
        )
    seconds = time.perf_counter() - started
    off = (found.x - x).square()[0, 0]
    near = torch.zeros(x.shape[-2:], dtype=torch.bool)
    for axis in (0, 1):
        for _, edge in _spans(x.shape[2 + axis], TILE)[:-1]:
            near.narrow(axis, edge - 2, 4).fill_(True)
    return {
        "size": [*x.shape[-2:]],
        "seconds": seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "psnr": float(psnr(found.x, x)),
        "seam": float(off[near].mean() / off[~near].mean()) if bool(near.any()) else None,
        "converged": bool(found.converged),
    }


def main() -> None:
    parser = harness.Arguments(__doc__, threads=0)
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    size = 0.02 if args.quick else args.megapixels
    rows = []
    for name, options in SETTINGS.items():
        cell = {
            "setting": name,
            "megapixels": size,
            "picture": None if args.picture is None else str(args.picture),
            "threads": args.threads,
        }
        found = harness.run(__file__, cell, args.threads, timeout=7200)
        rows.append({"setting": name, "options": options, "megapixels": size} | found)
        print(rows[-1], flush=True)
    out = args.out or harness.RESULTS
    machine = harness.machine(("torch", "innverse"), args.threads)
    harness.write_atomically(out / "big_picture.json", {"machine": machine, "rows": rows})


if __name__ == "__main__":
    harness.start(main, measure)
