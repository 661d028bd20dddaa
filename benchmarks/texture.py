"""Super-resolution of a material by a prior of its patches, learned from one picture.

The setting of PatchNR (Altekrueger et al. 2023, arXiv 2205.12021): a Gaussian of 16x16 pixels and
deviation 2, every fourth pixel, noise .01; the prior is that of configs/texture.toml, trained by
`innverse train` on the one training picture; the method is "pnp" with its defaults.

    python benchmarks/texture.py --data DIR      the folder with material_sr.tar
                                 --trained       with the prior that runs/texture holds already
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import harness
import torch
import torch.nn.functional as F
from torch import Tensor

import innverse
from innverse.data import read_image
from innverse.metrics import psnr, ssim
from innverse.physics import as_physics

ROOT = Path(__file__).parents[1]
NOISE, SIDE = 0.01, 600


def shrinking():
    """A and its adjoint; the borders are zero, as in PatchNR."""
    t = torch.arange(16.0) - 7.5
    line = torch.exp(-t.square() / 8)
    kernel = (line[:, None] * line / line.sum() ** 2)[None, None]

    def shrink(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (7, 7, 7, 7)), kernel.to(x), stride=4)

    def spread(y: Tensor) -> Tensor:
        x = F.pad(F.conv_transpose2d(y, kernel.to(y), stride=4), (0, 2, 0, 2))
        return x[..., 7 : 7 + SIDE, 7 : 7 + SIDE]

    return as_physics((shrink, spread), image_shape=(1, SIDE, SIDE))


def train(work: Path, threads: int, steps: list[str]) -> float:
    """Seconds."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "innverse", "train", "configs/texture.toml", "--quiet", "--no-resume",
         "--data", str(work / "data/images/img_learn_material.png"), "--out", str(work / "run"),
         "--set", f"train.threads={threads}", *steps],
        check=True, cwd=ROOT,
    )  # fmt: skip
    return time.perf_counter() - started


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1)
    parser.add_argument("--data", type=Path, required=True, help="folder with material_sr.tar")
    parser.add_argument("--trained", action="store_true", help="with the prior in runs/texture")
    args = parser.parse_args()
    harness.use(args.threads)
    work = ROOT / "runs" / "texture"
    with tarfile.open(args.data / "material_sr.tar") as archive:
        archive.extractall(work / "data", filter="data")
    if args.trained:
        trained = json.loads((harness.RESULTS / "texture.json").read_text())["training_seconds"]
    else:
        trained = train(work, args.threads, ["--steps", "100"] if args.quick else [])
    prior, physics, rows = innverse.load(work / "run/model"), shrinking(), []
    files = sorted((work / "data/test").glob("*.png"))
    for file in files[: 1 if args.quick else None]:
        x = read_image(file, "L").tensor[None]
        g = torch.Generator().manual_seed(0)
        y = physics.A(x) + NOISE * torch.randn(1, 1, SIDE // 4, SIDE // 4, generator=g)
        cubic = F.interpolate(y, (SIDE, SIDE), mode="bicubic", align_corners=False)
        found = innverse.solve(y, physics, prior, "pnp", noise=NOISE)
        rows.append(
            {
                "file": file.name,
                "bicubic": float(psnr(cubic, x)),
                "psnr": float(psnr(found.x, x)),
                "ssim": float(ssim(found.x, x)),
                "seconds": found.seconds,
            }
        )
        print(rows[-1], flush=True)
    mean = {k: sum(r[k] for r in rows) / len(rows) for k in ("bicubic", "psnr", "ssim", "seconds")}
    about = {"machine": harness.machine(("torch", "innverse"), args.threads)}
    result = about | {"training_seconds": trained, "parameters": prior.n_parameters, "mean": mean}
    out = args.out or (ROOT / "runs/bench" if args.quick else harness.RESULTS)
    harness.write_atomically(out / "texture.json", result | {"each": rows})
    print(mean)


if __name__ == "__main__":
    main()
