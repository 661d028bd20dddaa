"""Lossless coding by exact densities, and codes cut short: bits and decibels, with their peers.

    python benchmarks/coding.py --data DIR --mnist MODEL [--only lossless-mnist] [--quick]

DIR holds faces_test.tar, faces64_train.tar and mnist/; MODEL is a folder of `innverse train
configs/mnist-realnvp.toml` (or mnist.toml). Writes results/coding.json, cell by cell:

    lossless-mnist, lossless-faces        rate of a code that was decoded, beside that of the density
    progressive-mnist, progressive-faces  PSNR and bits of the coarsest scales, of the largest
                                          latents, beside PCA, wavelets, the DCT and JPEG
"""

from __future__ import annotations

import io
import json
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import harness
import numpy as np
import torch
from PIL import Image
from torch import Tensor

import innverse
from innverse import coding
from innverse.bijections import Haar
from innverse.data import fit, fit_all, open_images
from innverse.flows.scales import scale_shapes
from innverse.metrics import psnr

DRAWS = 8  # of the dequantisation, for the bits/dim of the density
SIGMA = 0.02  # at which the face flow encodes for pictures
TRAINING = 2000  # pictures from which PCA learns
STEP = 0.5  # of the rounded latents of a scale
STEPS = [0.25, 0.5, 1.0, 1.5, 2.0, 3.0]
SHARES = [64, 32, 16, 8, 4, 2]  # one of so many numbers is kept
QUALITIES = [5, 10, 20, 40, 60, 80, 95]


def mnist(args, part: str, n: int) -> Tensor:
    file = {"test": "t10k", "train": "train"}[part] + "-images-idx3-ubyte.gz"
    return fit_all(open_images(str(args.data / "mnist" / file), channels=1), (28, 28))[:n]


def faces(args, part: str, n: int) -> Tensor:
    file, subset = {
        "test": ("faces_test.tar", "celebahq"),
        "train": ("faces64_train.tar", "celeba"),
    }[part]
    source = open_images(str(args.data / file), subset=subset, channels=3)
    small = (fit(source[i][None].float() / 255, (64, 64)) for i in range(min(n, len(source))))
    return torch.cat([(255 * x).round().byte() for x in small])


DATA = {"mnist": (mnist, 100), "faces": (faces, 24)}


def flow_of(args, name: str):
    return innverse.load(args.mnist if name == "mnist" else "faces64")


def lossless(args, name: str) -> dict:
    """Compress, decompress, compare, count."""
    read, n = DATA[name]
    x, flow = read(args, "test", 2 if args.quick else n), flow_of(args, name)
    started = time.process_time()
    data = coding.compress(flow, x)
    encoded = time.process_time()
    exact = bool(torch.equal(coding.decompress(flow, data), x))
    decoded = time.process_time()
    code, level = coding.describe(data), flow.noise_range and flow.noise_range[0]
    torch.manual_seed(0)
    with torch.no_grad():
        bits = [float(flow.bits_per_dim(x, level).mean()) for _ in range(DRAWS)]
    model = sum(bits) / len(bits)
    return {
        "pictures": len(x), "shape": list(x.shape[1:]), "exact": exact, "bytes": len(data),
        "bits_per_dim_of_density": model, "bits_per_dim_of_code": code.bits_per_dim,
        "excess_percent": 100 * (code.bits_per_dim / model - 1),
        "gross_bits_per_dim": code.gross_bits_per_dim, "borrowed_bits": code.borrowed,
        "png_bits_per_dim": files(x, "PNG", optimize=True),
        "webp_bits_per_dim": files(x, "WEBP", lossless=True, quality=100, method=6),
        "encode_seconds_each": (encoded - started) / len(x),
        "decode_seconds_each": (decoded - encoded) / len(x),
    }  # fmt: skip


def files(x: Tensor, kind: str, **options) -> float:
    """Bits per dimension of all pictures in one, side by side, as a file of another format."""
    row = torch.cat(list(x), 2)
    return 8 * len(encoded(row, kind, **options)) / x.numel()


def encoded(image: Tensor, kind: str, **options) -> bytes:
    pixels = image.permute(1, 2, 0).squeeze(-1).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def progressive(args, name: str) -> dict:
    """PSNR and bits against the numbers kept."""
    read, n = DATA[name]
    pixels, flow = read(args, "test", 2 if args.quick else n), flow_of(args, name)
    x, known = (
        (pixels + 0.5) / 256,
        read(args, "train", 50 if args.quick else TRAINING).float() / 255,
    )
    at = flow if flow.noise_range is None else flow.at(SIGMA)
    n, (mean, axes) = x[0].numel(), principal(known)

    def peers(m: int) -> dict:
        kept = axes[:, : min(m, axes.shape[1])]
        pca = mean + (x.flatten(1) - mean) @ kept @ kept.T
        return {
            "kept": m, "share": m / n, "psnr_pca": decibels(pca.view_as(x), x),
            "psnr_wavelet": decibels(largest(x, m), x), "psnr_dct": decibels(largest_dct(x, m), x),
        }  # fmt: skip

    scales = []
    for levels in range(1, len(scale_shapes(flow.bijection, flow.shape)) + 1):
        with torch.no_grad():
            z, g = at.encode(x, levels=levels), torch.Generator().manual_seed(0)
            mode = at.decode(z, levels=levels)
            drawn = at.decode(z, levels=levels, temperature=1.0, generator=g)
            cell, bits = rounded(z, STEP)
            coded = at.decode(cell, levels=levels)
        scales.append(
            {"levels": levels, "psnr_mode": decibels(mode, x), "psnr_drawn": decibels(drawn, x),
             "bits_per_dim": bits / n, "psnr_coded": decibels(coded, x)} | peers(z.shape[1])
        )  # fmt: skip
    return {
        "pictures": len(x), "scales": scales, "step": STEP,
        "largest": [{"psnr_latents": decibels(largest_latents(at, x, n // k), x)} | peers(n // k)
                    for k in ([8] if args.quick else SHARES)],
        "lossy": quantised(at, x, [1.0] if args.quick else STEPS),
        "jpeg": [{"quality": q} | jpeg(pixels, q) for q in ([20] if args.quick else QUALITIES)],
    }  # fmt: skip


def decibels(y: Tensor, x: Tensor) -> float | None:
    """PSNR; None where nothing is lost (black digits in few coefficients)."""
    found = float(psnr(y.clamp(0, 1), x).mean())
    return round(found, 3) if math.isfinite(found) else None


def principal(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the principal axes (n, m) of pictures."""
    x = x.flatten(1)
    return x.mean(0), torch.linalg.svd(x - x.mean(0), full_matrices=False)[2].T


def keep(row: Tensor, m: int) -> Tensor:
    """The m largest numbers of every row (B, n), the others 0; their places are not counted."""
    places = row.abs().topk(m, 1).indices
    return torch.zeros_like(row).scatter(1, places, row.gather(1, places))


@torch.no_grad()
def largest_latents(flow, x: Tensor, m: int) -> Tensor:
    z = flow.encode(x)
    return flow.decode(keep(z.flatten(1), m).view_as(z))


def largest(x: Tensor, m: int) -> Tensor:
    """What the m largest of the Haar coefficients of all scales give."""
    layers, haar = [], Haar(torch.nn.Identity())
    for _ in range(4):
        if x.shape[-1] % 2 or x.shape[-2] % 2:
            break
        y = haar.down(x)
        c = y.shape[1] // 4
        layers.append(y[:, c:])
        x = y[:, :c]
    parts = [x, *layers]
    row = keep(torch.cat([p.flatten(1) for p in parts], 1), m)
    pieces = row.split([p[0].numel() for p in parts], 1)
    x, *rest = (p.view_as(t) for p, t in zip(pieces, parts, strict=True))
    for part in reversed(rest):
        x = haar.up(torch.cat((x, part), 1))
    return x


def largest_dct(x: Tensor, m: int) -> Tensor:
    """The same of the cosine transform of blocks: JPEG's of 8x8, else 4x4."""
    side = 8 if x.shape[-1] % 8 == 0 and x.shape[-2] % 8 == 0 else 4
    k = torch.arange(side)[:, None]
    dct = (math.pi / side * (torch.arange(side) + 0.5) * k).cos() * (2 / side) ** 0.5
    dct[0] /= 2**0.5
    blocks = x.unfold(2, side, side).unfold(3, side, side)
    found = dct @ blocks @ dct.T
    found = dct.T @ keep(found.flatten(1), m).view_as(found) @ dct
    return found.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def rounded(z: Tensor, step: float) -> tuple[Tensor, float]:
    """Latents at the middles of cells of N(0, 1), and the bits of an item under that density."""
    cell = (z / step).round()
    normal = torch.distributions.Normal(0.0, 1.0)
    mass = normal.cdf((cell + 0.5) * step) - normal.cdf((cell - 0.5) * step)
    return cell * step, float(-mass.clamp_min(1e-12).log2().sum() / len(z))


@torch.no_grad()
def quantised(flow, x: Tensor, steps: list[float]) -> list[dict]:
    """All latents rounded."""
    z, rows = flow.encode(x), []
    for step in steps:
        cell, bits = rounded(z, step)
        rows.append({"step": step, "bits_per_dim": bits / x[0].numel(),
                     "psnr": decibels(flow.decode(cell), x)})  # fmt: skip
    return rows


def jpeg(pixels: Tensor, quality: int) -> dict:
    """Without its header, that of an empty picture."""
    empty = len(encoded(torch.zeros_like(pixels[0]), "JPEG", quality=quality, optimize=True))
    bits, again = 0, []
    for image in pixels:
        data = encoded(image, "JPEG", quality=quality, optimize=True)
        bits += 8 * (len(data) - empty)
        back = torch.from_numpy(np.array(Image.open(io.BytesIO(data))))
        again.append(back.view(*image.shape[1:], -1).permute(2, 0, 1))
    return {
        "bits_per_dim": bits / pixels.numel(),
        "psnr": decibels(torch.stack(again).float() / 255, pixels.float() / 255),
    }


CELLS = {
    f"{kind.__name__}-{name}": (kind, name) for kind in (lossless, progressive) for name in DATA
}


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1)
    parser.add_argument("--data", type=Path, required=True, help="folder of the test pictures")
    parser.add_argument("--mnist", type=Path, help="folder of a model of MNIST; else left out")
    parser.add_argument("--only", choices=CELLS, help="run this cell, and keep the others")
    args = parser.parse_args()
    harness.use(args.threads)
    path = (args.out or harness.RESULTS) / "coding.json"
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    about = {"machine": harness.machine(("torch", "numpy", "innverse"), args.threads)}
    for cell, (kind, name) in CELLS.items():
        wanted = args.only == cell if args.only else cell not in found
        if not wanted or (name == "mnist" and args.mnist is None):
            continue
        found[cell] = about | kind(args, name)
        print(cell, json.dumps(found[cell]), flush=True)
        harness.write_atomically(path, found)


if __name__ == "__main__":
    main()
