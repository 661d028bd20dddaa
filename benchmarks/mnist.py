"""Bits per dimension of trained models on the 10,000 test images of MNIST.

    innverse train configs/mnist.toml --data train-images-idx3-ubyte.gz --out runs/mnist
    innverse train configs/mnist-realnvp.toml --data train-images-idx3-ubyte.gz --out runs/mnist-realnvp
    python benchmarks/mnist.py --data t10k-images-idx3-ubyte.gz runs/mnist runs/mnist-realnvp
        [--vae runs/mnist-vae] [--draws 2] [--importance 100]

The convention: 28x28 pixels, uniform dequantisation x = (v + u) / 256, -log2 p(x) / 784 + 8. Each
draw of u gives an unbiased estimate of a bound on the discrete likelihood; the mean over ``--draws``
of them and their spread are reported. A flow's density is exact. A VAE's is a bound: the importance
weighted one (Burda et al. 2015) with ``--importance`` samples, in the same units.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from statistics import mean

import harness

PACKAGES = ("torch", "innverse")
PUBLISHED = {"glow": 1.05, "realnvp": 1.06}  # as in Chen et al. 2019, arXiv 1906.02735, table 1
TARGET = {"glow": 1.10, "realnvp": 1.20}


def flow_row(run: Path, images, draws: int) -> dict:
    """The exact bits/dim of the flow in the folder of a training run."""
    import torch

    from innverse.data import dequantize
    from innverse.flows import Flow

    flow = Flow.from_pretrained(run / "model")
    start, bits = time.process_time(), []
    with torch.no_grad():
        for seed in range(draws):
            g = torch.Generator().manual_seed(seed)
            noise = torch.rand(images.shape, generator=g)
            x = dequantize(images, noise=noise)
            bits.append(torch.cat([flow.bits_per_dim(part).double() for part in x.split(100)]))
    bits = torch.stack(bits)
    return {
        "model": flow.name,
        "kind": "exact",
        "bits_per_dim": bits.mean().item(),
        "draws": bits.mean(1).tolist(),
        "standard_error": (bits.mean(0).std() / math.sqrt(len(images))).item(),
        "parameters": flow.n_parameters,
        "evaluation_seconds": time.process_time() - start,
        "published": PUBLISHED.get(flow.name),
        "target": TARGET.get(flow.name),
    } | training(run)


def vae_row(run: Path, images, importance: int) -> dict:
    """The importance-weighted bound of a VAE, in the same bits/dim."""
    import torch

    from innverse.data import dequantize
    from innverse.generators import VAE

    vae = VAE.from_pretrained(run / "model")
    torch.manual_seed(0)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    start = time.process_time()
    with torch.no_grad():
        parts = dequantize(images, noise=noise).split(50)
        bits = torch.cat([vae.bits_per_dim(x, importance).double() for x in parts])
    return {
        "model": "vae",
        "kind": f"bound, {importance} importance samples",
        "bits_per_dim": bits.mean().item(),
        "draws": [bits.mean().item()],
        "standard_error": (bits.std() / math.sqrt(len(images))).item(),
        "parameters": sum(p.numel() for p in vae.parameters()),
        "evaluation_seconds": time.process_time() - start,
    } | training(run)


def training(run: Path) -> dict:
    """What the run's own files say about its training."""
    from innverse.train.metrics import read_metrics

    config = json.loads((run / "config.json").read_text())
    rows = [row for row in read_metrics(run / "metrics.jsonl") if "seconds" in row]
    last = next((row for row in reversed(rows) if row["kind"] == "train"), {})
    name = "bits_per_dim_bound" if config["model"]["name"] == "vae" else "bits_per_dim"
    held_out = [row[name] for row in rows if row["kind"] == "eval"]
    return {
        "training_minutes": last.get("processor_seconds", math.nan) / 60,
        "training_minutes_by_the_clock": last.get("seconds", math.nan) / 60,
        "training_steps": last.get("step"),
        "steps_refused": last.get("skipped"),
        "validation_bits_per_dim": held_out[-1] if held_out else None,
        "settings": {"model": config.get("model"), "train": config.get("train")},
    }


def text_of(rows: list[dict], info: dict, arguments) -> str:
    lines = [
        [
            f"{row['model']} ({row['kind']})",
            f"{row['bits_per_dim']:.4f}",
            f"{min(row['draws']):.4f} .. {max(row['draws']):.4f}",
            f"{row['standard_error']:.4f}",
            f"{row['target']:.2f}" if row.get("target") else "",
            f"{row['published']:.2f}" if row.get("published") else "",
            f"{row['parameters'] / 1000:.0f}",
            f"{row['training_minutes']:.0f}",
        ]
        for row in rows
    ]
    header = [
        "model", "bits/dim", "range of draws", "standard error over images", "target",
        "published, GPU-days", "thousand parameters", "training, processor min",
    ]  # fmt: skip
    runs = " ".join(str(run) for run in arguments.runs)
    trained = "\n".join(
        f"    innverse train configs/{run.name}.toml --data train-images-idx3-ubyte.gz --out {run}"
        for run in arguments.runs
    )
    vae = f" --vae {arguments.vae} --importance {arguments.importance}" if arguments.vae else ""
    steps = ", ".join(f"{r['model']} {r['training_steps']:,} steps" for r in rows)
    mean_of = f"mean of {arguments.draws} draws of the noise"
    return (
        "# MNIST, 28x28 pixels, uniform dequantisation\n\n"
        "The 10,000 test images, -log2 p / 784 of (v + u) / 256 on the scale of 0..255; "
        f"{mean_of}. Trained on 59,000 of the training images ({steps}), the other 1,000 for "
        "validation. The first layer of both flows is a learned histogram with one bin for each "
        f"grey level (`gaussianize = 256`). {info['processor']}, one thread; torch "
        f"{info['torch']}.\n\n{trained}\n"
        f"    python benchmarks/mnist.py --data t10k-images-idx3-ubyte.gz {runs}{vae}\n\n"
        f"{harness.table(header, lines)}\n"
    )


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1, quick=False)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of training runs of flows")
    parser.add_argument("--data", required=True, help="the test images: IDX, or their folder")
    parser.add_argument("--subset", default=None, help="t10k, if --data is MNIST's folder")
    parser.add_argument("--vae", type=Path, default=None, help="folder of a VAE's training run")
    parser.add_argument("--draws", type=int, default=2, help="of the dequantisation noise")
    parser.add_argument("--importance", type=int, default=100, help="samples of the VAE's bound")
    parser.add_argument("--images", type=int, default=None, help="only so many: does it run?")
    args = parser.parse_args()

    from innverse.data import open_images

    harness.use(args.threads)
    images = open_images(args.data, subset=args.subset, channels=1).stack()[: args.images]
    rows = [flow_row(run, images, args.draws) for run in args.runs]
    if args.vae:
        rows.append(vae_row(args.vae, images, args.importance))
    args.runs = [Path("runs") / run.name for run in args.runs]  # a reader has folders of his own
    args.vae = args.vae and Path("runs") / args.vae.name
    info = harness.machine(PACKAGES, args.threads)
    text = text_of(rows, info, args)
    print(text)
    data = {"machine": info, "images": len(images), "rows": rows}
    data["mean_of_draws"] = {row["model"]: mean(row["draws"]) for row in rows}
    harness.write("mnist", text, data, args.out)


if __name__ == "__main__":
    main()
