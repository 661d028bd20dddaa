"""Scans: CT of other patients, a tooth, a head of eight coils, and how fast rays are followed.

    python benchmarks/scans.py --data DIR --prior runs/ct/model          what is not there yet
    python benchmarks/scans.py --data DIR --only mri --methods zero-filled
    python benchmarks/scans.py --only speed                              no data are needed
    python benchmarks/scans.py --quick                                   that it all runs, in seconds

DIR has ct_slices_hu.npz, ct_tooth_sinogram.h5 and mri_brain_8ch.mat, or some of them. The prior is that
of configs/ct.toml. Rows go to results/scans.json as they come, so a run can stop anywhere; they are
those of benchmarks/restoration.py, whose cells these are. Speed is that of A and its adjoint for four
pictures of 256x256 under 180 fan views; deepinv and diffct beside it where they are installed.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import harness
from restoration_cells import _scans
from restoration_cells._setting import Setting

CELLS = ("ct", "mri")


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1)
    parser.add_argument("--data", type=Path, help="folder with the scans")
    parser.add_argument("--prior", type=Path, help="a prior of CT slices, a folder")
    parser.add_argument("--only", choices=(*CELLS, "speed"), nargs="+", default=[*CELLS, "speed"])
    parser.add_argument("--tasks", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--methods", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--work", type=Path, help="folder for pictures (default runs/scans)")
    parser.add_argument("--again", action="store_true", help="also rows that are there")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    file = (args.out or harness.RESULTS) / "scans.json"
    found = json.loads(file.read_text()) if file.exists() else {"rows": [], "speed": []}
    work = args.work or (file.parent / "work" if args.quick else Path("runs/scans"))
    setting = Setting(work, args.data, args.quick, tasks=args.tasks, methods=args.methods)
    if args.prior is not None:
        given = functools.cache(lambda: import_module("innverse").load(str(args.prior)))
        _scans.PRIORS["ct"] = given
    if not args.again:
        setting.done = {key(row) for row in found["rows"]}
    found["machine"] = harness.machine(("torch", "innverse", "deepinv", "diffct"), args.threads)

    def save() -> None:
        harness.write_atomically(file, found)
        file.with_suffix(".md").write_text(page(found))

    for name in (name for name in CELLS if name in args.only):
        for row in import_module(f"restoration_cells.{name}").rows(setting):
            row["processor"] = found["machine"]["processor"]
            others = [r for r in found["rows"] if key(r) != key(row)]
            found["rows"] = sorted([*others, row], key=key)
            save()
            told = f"{row['psnr']:6.2f} dB  {row['ssim']:.3f}  {row['seconds']:.1f} s"
            print(f"{' / '.join(key(row)):60s} {told}", flush=True)
    if "speed" in args.only:
        found["speed"] = speed(args.quick)
        save()


def key(row: dict) -> tuple[str, str, str]:
    return row["task"], row["dataset"], row["method"]


# ---- how fast -----------------------------------------------------------------------------------


def ours(side: int, views: int, x):
    from innverse.physics import Tomography

    physics = Tomography((1, side, side), views, source=2.0 * side, detector=1.0 * side)
    return lambda: physics.A_adjoint(physics.A(x))


def deepinv(side: int, views: int, x):
    import deepinv as dinv
    import torch

    angles = torch.arange(views) * 360.0 / views
    physics = dinv.physics.Tomography(angles, img_width=side, fan_beam=True, circle=False)
    return lambda: physics.A_adjoint(physics.A(x))


def diffct(side: int, views: int, x):
    import torch
    from diffct.differentiable import FanBackprojectorFunction, FanProjectorFunction

    angles = torch.arange(views, dtype=torch.float32) * 2 * torch.pi / views
    bins = 2 * side

    def step():
        for image in x[:, 0]:
            y = FanProjectorFunction.apply(image, angles, bins, 1.0, 3.0 * side, 2.0 * side)
            FanBackprojectorFunction.apply(y, angles, 1.0, side, side, 3.0 * side, 2.0 * side)

    return step


PEERS: dict[str, Callable] = {"innverse": ours, "deepinv": deepinv, "diffct": diffct}


def speed(quick: bool) -> list[dict]:
    """Seconds of A and its adjoint, of those that are installed; the matrix is made before."""
    import torch

    side, views, batch = (32, 12, 2) if quick else (256, 180, 4)
    x = torch.rand(batch, 1, side, side, generator=torch.Generator().manual_seed(0))
    rows = []
    for name, make in PEERS.items():
        try:
            step = make(side, views, x)
            step()
        except Exception as error:  # not installed, or not made for a processor: said, not hidden
            print(f"speed / {name}: {type(error).__name__}: {error}", flush=True)
            continue
        took = harness.seconds(step, enough=0.1 if quick else 3.0)
        rows.append({"library": name, "side": side, "views": views, "batch": batch} | took)
        print(f"speed / {name}: {took['seconds']:.3f} s", flush=True)
    return rows


# ---- the page -----------------------------------------------------------------------------------


def page(found: dict) -> str:
    head = ["task", "pictures", "method", "dB", "SSIM", "s", "n"]
    body = [
        [r["task"], r["dataset"], r["method"], f"{r['psnr']:.2f} +- {r['std_err']:.2f}",
         f"{r['ssim']:.3f}", f"{r['seconds']:.1f}", str(r["n"])]
        for r in found["rows"]
    ]  # fmt: skip
    fast = [[r["library"], f"{r['seconds']:.3f}"] for r in found["speed"]]
    m = found["machine"]
    return (
        f"# Scans\n\n{m['processor']}, {m['threads']} thread; seconds of processor time a picture.\n\n"
        f"{harness.table(head, body)}\n\nA and its adjoint, four pictures, 180 fan views:\n\n"
        f"{harness.table(['library', 's'], fast)}\n"
    )


if __name__ == "__main__":
    main()
