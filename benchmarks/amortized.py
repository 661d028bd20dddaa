"""Amortised posteriors where the truth is known: accuracy, calibration and speed, question by question.

    sbibm         C2ST to the reference posteriors of eight tasks, minutes of training; sbi's NPE for
                  the same time on two of them
    kinematics    MMD^2 to rejection ground truth, re-simulation error, seconds per 10^6 draws
    modes         eight modes: their weights under both variants of the bi-directional INN
    calibration   SBC and TARP by our functions and by sbi's
    steps         training steps and draws per second beside sbi's NPE

    python benchmarks/amortized.py sbibm --task slcp       one task, put among the others of the table
    python benchmarks/amortized.py --quick                 that it all runs, in a minute or two

Every cell (a training, one observation) is kept in --cells and not computed again; the tables are
written to --out from the cells. sbi's columns stay empty where sbi is not installed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import harness
from posteriors import calibration, kinematics, modes, sbibm, steps
from posteriors.cells import Setting

PARTS = {
    "sbibm": sbibm.run,
    "kinematics": kinematics.run,
    "modes": modes.run,
    "calibration": calibration.run,
    "steps": steps.run,
}
# the parts that may be asked for one task only
BY_TASK = {"sbibm": sbibm.PUBLISHED, "kinematics": kinematics.PUBLISHED}


def main() -> None:
    root = Path(__file__).parents[1]
    parser = harness.Arguments(__doc__, threads=2)
    parser.add_argument("part", nargs="?", choices=PARTS, help="all of them by default")
    parser.add_argument("--task", help="one task of sbibm or kinematics")
    parser.add_argument("--density", default="nsf")
    parser.add_argument("--epochs", type=int, default=1000, help="most epochs of a training")
    parser.add_argument("--minutes", type=float, help="most minutes of a training")
    parser.add_argument("--cells", type=Path, default=root / "runs" / "amortized")
    args = parser.parse_args()
    for name in [args.part] if args.part else PARTS:
        if args.task and args.task not in BY_TASK.get(name, ()):
            parser.error(f"{name} has no task {args.task!r}")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(
            cells=Path(scratch) if args.quick else args.cells,
            density=args.density,
            epochs=2 if args.quick else args.epochs,
            minutes=args.minutes,
            quick=args.quick,
        )
        folder = args.out or (None if args.quick else Path(__file__).parent / "results")
        for name in [args.part] if args.part else PARTS:
            result = PARTS[name](setting, *([args.task] if args.task else []))
            if folder is None:
                continue
            result["config"] = {k: str(v) for k, v in vars(setting).items() if k != "cells"}
            result["machine"] = harness.machine(("torch", "innverse", "sbi"), args.threads)
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{name}.json"
            if args.task and file.exists():
                result = beside(json.loads(file.read_text()), result, file)
            file.write_text(json.dumps(result, indent=1) + "\n")


def beside(earlier: dict, result: dict, file: Path) -> dict:
    """The results of one task among those of the others that ``file`` has."""
    for what in ("config", "machine"):
        if earlier[what] != result[what]:
            raise SystemExit(f"{file} was made with {what} {earlier[what]}: run all tasks here")
    inner = {
        k: {**earlier[k], **v} for k, v in result.items() if isinstance(v, dict) and k in earlier
    }
    return {**earlier, **result, **inner}


if __name__ == "__main__":
    main()
