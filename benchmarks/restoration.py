"""Which way restores best? A scoreboard: task x pictures x method, each cell with its own row.

    python benchmarks/restoration.py --data DIR                   all cells that are not there yet
    python benchmarks/restoration.py --data DIR --tasks 'deblur*' --methods '*pnp' wavelets
    python benchmarks/restoration.py --data DIR --datasets set12-64
    python benchmarks/restoration.py --data DIR --tune            weights, on training pictures
    python benchmarks/restoration.py --quick                      that it all runs, in seconds

Each file of `restoration_cells` without an underscore before its name has ``rows(setting)``, and says
what it measures. The one weight that a method has is tuned for each task on pictures of natural_train,
which no test has (`restoration_cells/tuned.json`). Rows go to results/restoration.json as they come, so
a run can stop anywhere; the first picture of each cell to --work/pictures.

DnCNN's weights are for noise 25 only: a weak peer at other levels. deepinv's methods run with --peers
where it is installed. The posterior mean is dear, and runs on the middle 64x64 pixels.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import harness
from restoration_cells._setting import TUNED, NoData, Setting

HERE = Path(__file__).parent
CELLS = sorted(p.stem for p in (HERE / "restoration_cells").glob("[!_]*.py"))


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1)
    parser.add_argument("--data", type=Path, help="folder with the archives of pictures")
    parser.add_argument("--only", choices=CELLS, nargs="+", default=CELLS, metavar="FILE")
    parser.add_argument("--tasks", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--methods", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--datasets", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--dncnn", type=Path, help="weights of DnCNN for noise 25 of 255")
    parser.add_argument("--patches", type=Path, help="a patch flow (default: one is trained)")
    parser.add_argument("--peers", action="store_true", help="deepinv's methods too")
    parser.add_argument(
        "--work", type=Path, help="folder of what is kept (default runs/restoration)"
    )
    parser.add_argument("--again", action="store_true", help="also rows that are there")
    parser.add_argument("--tune", action="store_true", help="find the weights")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    runs = HERE.parent / "runs"
    work = args.work or (args.out / "work" if args.quick else runs / "restoration")
    setting = Setting(
        work, args.data, args.quick, args.dncnn, args.patches, args.peers,
        args.tasks, args.methods, args.datasets,
    )  # fmt: skip
    if args.tune:
        tune(setting, args.only, args.out / "tuned.json" if args.quick else TUNED)
        return
    file = (args.out or harness.RESULTS) / "restoration.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    if not args.again:
        setting.done = {key(r) for r in rows}
    machine = harness.machine(("torch", "innverse"), args.threads)
    for name in args.only:
        try:
            for row in import_module(f"restoration_cells.{name}").rows(setting):
                row["processor"] = machine["processor"]
                rows = sorted([r for r in rows if key(r) != key(row)] + [row], key=key)
                harness.write_atomically(file, {"machine": machine, "rows": rows})
                told = f"{row['psnr']:6.2f} dB +- {row['std_err']:.2f}  {row['seconds']:.2f} s"
                print(f"{' / '.join(key(row)):60s} {told}", flush=True)
        except NoData as missing:
            print(f"{name}: {missing}", flush=True)
    if rows:
        file.with_suffix(".md").write_text(page(rows, machine))


def key(row: dict) -> tuple[str, str, str]:
    return row["task"], row["dataset"], row["method"]


def tune(setting: Setting, names: list[str], file: Path) -> None:
    """The best weights of every method for every task, and what all of them reached."""
    found = json.loads(file.read_text()) if file.exists() else {"weights": {}, "psnr": {}}
    for name in names:
        cell = import_module(f"restoration_cells.{name}")
        for method, task, mean in cell.tune(setting) if hasattr(cell, "tune") else ():
            best = max(mean, key=lambda w: mean[w])
            found["weights"].setdefault(method, {})[task] = best
            told = {f"{w:g}": round(v, 3) for w, v in mean.items()}
            found["psnr"].setdefault(method, {})[task] = told
            harness.write_atomically(file, found)
            print(f"{method} / {task}: {best:g} of {told}", flush=True)


def page(rows: list[dict], machine: dict) -> str:
    """A table for each set of pictures: tasks down, methods across."""
    parts = [f"# Restoration\n\n{(__doc__ or '').strip()}\n"]
    for dataset in dict.fromkeys(r["dataset"] for r in rows):
        here = [r for r in rows if r["dataset"] == dataset]
        methods = list(dict.fromkeys(r["method"] for r in here))
        lines = []
        for task in dict.fromkeys(r["task"] for r in here):
            cells = {r["method"]: r for r in here if r["task"] == task}
            lines.append([task, *(_cell(cells.get(m)) for m in methods)])
        n = max(r["n"] for r in here)
        about = (
            f"PSNR in dB +- standard error over {n} pictures; SSIM; processor seconds a picture."
        )
        parts.append(f"## {dataset}\n\n{about}\n\n{harness.table(['task', *methods], lines)}\n")
    return "\n".join(parts) + f"\n{machine['processor']}, {machine['threads']} thread.\n"


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    return f"{row['psnr']:.2f} +- {row['std_err']:.2f}; {row['ssim']:.3f}; {row['seconds']:.1f}"


if __name__ == "__main__":
    main()
