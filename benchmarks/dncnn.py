"""Denoising at sigma 25/255 beside a network made for nothing else: DnCNN (Zhang et al. 2017).

    .venv/bin/python benchmarks/dncnn.py --weights dncnn25_peer.pth --faces faces_test.tar
        --gray restoration_test.tar [--images 100]

The weights are those of the published gray DnCNN for this one noise level (17 convolutions); on
colour pictures it denoises each channel. The flows' denoiser is the posterior mean, averaged over 16
views; total variation has its default weight, which was fitted on photographs.
"""

from __future__ import annotations

from pathlib import Path

import harness
import torch
from torch import Tensor, nn

import innverse
from innverse.data import open_images
from innverse.metrics import psnr
from innverse.physics import Denoising
from innverse.studies.reproduce import protocol
from innverse.studies.reproduce.pictures import picture_sets

PACKAGES = ("torch", "innverse")
SIGMA = 25 / 255


def dncnn(file: Path) -> nn.Module:
    """Seventeen convolutions with ReLU between them, which predict the noise."""
    weights = torch.load(file, weights_only=True)
    layers: list[nn.Module] = []
    for name, w in weights.items():
        if name.endswith("weight"):
            layers += [nn.Conv2d(w.shape[1], w.shape[0], 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    net.load_state_dict({k.removeprefix("model."): v for k, v in weights.items()})
    return net.eval()


@torch.no_grad()
def scores(pictures: list[Tensor], prior, peer: nn.Module) -> dict[str, list[float]]:
    """PSNR of every way for each of ``pictures`` (1, C, H, W)."""
    ours = protocol.EXPERIMENTS["denoising"].methods["flow"]
    options = protocol.options("denoising", "0.1", "flow", ours, {})
    found: dict[str, list[float]] = {"flow": [], "DnCNN": [], "total variation": [], "noisy": []}
    for i, x in enumerate(pictures):
        physics = Denoising(noise=SIGMA, image_shape=tuple(x.shape[1:]))
        y = physics(x, torch.Generator().manual_seed(1 + i))
        flow = innverse.solve(y, physics, prior, ours.method, **options).x
        tv = innverse.solve(y, physics, method="tv").x
        noise = peer(y.reshape(-1, 1, *y.shape[2:])).reshape(y.shape)
        for name, image in zip(found, (flow, y - noise, tv, y), strict=True):
            found[name].append(float(psnr(image.clamp(0, 1), x)))
    return found


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1, quick=False)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--faces", required=True, help="faces_test.tar")
    parser.add_argument("--gray", required=True, help="restoration_test.tar")
    parser.add_argument("--images", type=int, default=100, help="faces, at most")
    args = parser.parse_args()
    harness.use(args.threads)
    peer = dncnn(args.weights)
    faces = picture_sets(args.faces, args.images)
    gray = open_images(args.gray, subset="set12", channels=1)
    sets = {
        "CelebA-HQ faces, faces64": (list(faces["celebahq"].x.split(1)), "faces64"),
        "FFHQ faces, faces64": (list(faces["ffhq"].x.split(1)), "faces64"),
        "Set12, natural-gray": (
            [gray[i][None].float() / 255 for i in range(len(gray))],
            "natural-gray",
        ),
    }
    rows = []
    for name, (pictures, prior) in sets.items():
        found = scores(pictures, innverse.load(prior), peer)
        rows.append(
            {"set": name, "n": len(pictures)} | {k: sum(v) / len(v) for k, v in found.items()}
        )
        print(rows[-1], flush=True)
    info = harness.machine(PACKAGES, args.threads)
    ways = list(rows[0])[2:]
    lines = [[r["set"], str(r["n"]), *(f"{r[w]:.2f}" for w in ways)] for r in rows]
    text = (
        "# Denoising at sigma 25/255 beside DnCNN\n\n"
        f"{info['processor']}; torch {info['torch']}, innverse {info['innverse']}. PSNR in dB, mean "
        "over the pictures; the noise of each has its own seed.\n\n"
        "    python benchmarks/dncnn.py --weights dncnn25_peer.pth --faces faces_test.tar "
        "--gray restoration_test.tar\n\n"
        f"{harness.table(['pictures, prior', 'n', *ways], lines)}\n"
    )
    harness.write("dncnn", text, {"machine": info, "sigma": SIGMA, "rows": rows}, args.out)


if __name__ == "__main__":
    main()
