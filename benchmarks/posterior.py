"""Is the posterior sampler right, and what are its error bars worth? One key of a file per proof.

Each file of `posterior_cells` whose name has no underscore before it is a proof, and says what it does:
`gaussian`, `rank_test`, `sbc`, `mutants`, `pictures`, ...

    python benchmarks/posterior.py                        all that is not there yet
    python benchmarks/posterior.py --only rank_test       one
    python benchmarks/posterior.py --quick                that it all runs, in a minute or two
    python benchmarks/posterior.py --only pictures --data DIR

A proof is made of parts, kept in --work: what is there is not computed again, so a run can stop
anywhere. --again forgets the key, and not the parts, of which those of other settings do not count.
The numbers go to results/posterior.json, tables of them to posterior.md, the bands of all ranks to
posterior.png.
"""

from __future__ import annotations

import fcntl
import json
import sys
import time
from importlib import import_module
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

import harness
from posterior_cells import _bands
from posterior_cells._setting import NoData, Setting

HERE = Path(__file__).parent
CELLS = sorted(p.stem for p in (HERE / "posterior_cells").glob("[!_]*.py"))


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1)
    parser.add_argument("--only", choices=CELLS, nargs="+", default=CELLS, metavar="KEY")
    parser.add_argument("--data", type=Path, help="folder with the archives of pictures")
    parser.add_argument("--work", type=Path, help="folder of the parts (default runs/posterior)")
    parser.add_argument("--tasks", nargs="+", default=["*"], metavar="PATTERN", help="of pictures")
    parser.add_argument("--pictures", type=int, metavar="N", help="the first N of each task")
    parser.add_argument("--again", action="store_true", help="also what is there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    file = (args.out or harness.RESULTS) / "posterior.json"
    work = args.work or HERE.parent / "runs" / ("posterior-quick" if args.quick else "posterior")
    for name in args.only:
        if _read(file).get(name, {}).get("complete") and not args.again:
            print(f"{name}: is there")
            continue
        cell = import_module(f"posterior_cells.{name}")
        seed, there = getattr(cell, "SEED", 0), _read(file).get(name, {})
        setting = Setting(
            work / name, args.data, args.quick, seed, args.tasks, args.pictures, there
        )

        def save(result: dict, complete: bool = False, name=name, setting=setting) -> None:
            machine = harness.machine(("torch", "innverse"), args.threads)
            about = {"complete": complete, "seed": setting.seed, "machine": machine}
            _put(file, name, about | {"processor_seconds": sum(setting.seconds.values())} | result)

        setting.save = save
        started = time.perf_counter()
        try:
            save(cell.run(setting), complete=args.tasks == ["*"] and args.pictures is None)
        except NoData as missing:
            print(f"{name}: {missing}")
            continue
        print(f"{name}: done in {time.perf_counter() - started:.0f} s", flush=True)
    results = _read(file)
    file.with_suffix(".md").write_text("\n".join(_page(results)))
    _bands.draw(results, file.with_suffix(".png"))


def _read(file: Path) -> dict:
    return json.loads(file.read_text()) if file.exists() else {}


def _page(results: dict) -> list[str]:
    """What each proof is, and its ``table(result)`` where it has one."""
    lines = ["# Posteriors: the proofs\n"]
    for name in (name for name in CELLS if name in results):
        cell, result = import_module(f"posterior_cells.{name}"), results[name]
        done = "" if result["complete"] else " (unfinished)"
        lines.append(f"## {name}{done}\n\n{(cell.__doc__ or '').strip()}\n")
        lines += [cell.table(result)] if hasattr(cell, "table") else []
        about = result["machine"]
        lines.append(
            f"\n{about['processor']}, {about['threads']} thread, torch {about['torch']}; seed "
            f"{result['seed']}; {result['processor_seconds']:.0f} s of processor time.\n"
        )
    return lines


def _put(file: Path, name: str, result: dict) -> None:
    """One key of the file, whoever else is writing others."""
    runs = HERE.parent / "runs"
    runs.mkdir(exist_ok=True)
    with open(runs / "posterior.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        harness.write_atomically(file, _read(file) | {name: result})


if __name__ == "__main__":
    main()
