"""The picture of the README: a photograph of which half was measured, with its error bar.

`python docs/readme_picture.py` writes docs/img/error_bar.png and prints its numbers; about half an
hour on a busy CPU.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import innverse
from innverse.data import atomic_write
from innverse.metrics import psnr
from innverse.progress import Progress
from innverse.report import Heat, panel
from innverse.studies.pictures import crop, photograph

SIDE, REGION = 48, (70, 120, 128, 128)  # of chelsea, the cat of scikit-image
KEEP, NOISE = 0.5, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "img" / "error_bar.png")
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--draws", type=int, default=1200)
    parser.add_argument("--warmup", type=int, default=60)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--checkpoint", type=Path, help="a folder, from which it goes on")
    args = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    truth = crop(photograph("chelsea", 1), REGION, args.side)[None]
    physics = innverse.physics.Inpainting.random(truth.shape[1:], KEEP, generator, NOISE)
    y = physics(truth, generator)
    prior = innverse.load("natural-gray").to(args.device)
    options = {"of": "clean", "draws": args.draws, "chains": 4, "warmup": args.warmup}
    options |= {"checkpoint": str(args.checkpoint)} if args.checkpoint else {}
    with Progress("drawing", 1) as bar:
        where = physics.to(args.device), prior
        r = innverse.solve(
            y.to(args.device), *where, "posterior", progress=bar.part(0, 1), **options
        )

    error, (low, high) = (r.x.cpu() - truth).abs(), r.interval(0.9)
    held = ((truth >= low.cpu()) & (truth <= high.cpu())).double().mean()
    top = float(r.std.max())
    pictures = [
        ("measured", "half of the pixels, noisy", y[0].clamp(0, 1)),
        ("the flow's picture", f"{float(psnr(r.x.cpu(), truth)):.1f} dB", r.x[0].cpu()),
        ("its error bar", "", Heat(r.std[0].cpu(), top)),
        ("the error really made", "", Heat(error[0], top)),
    ]
    image = panel(pictures, cell=192, gap=12)
    atomic_write(args.out, lambda file: image.save(file, "PNG", optimize=True))
    print(r)
    print(f"intervals of 90 % hold {100 * held:.0f} % of the true pixels; {args.out}")


if __name__ == "__main__":
    main()
