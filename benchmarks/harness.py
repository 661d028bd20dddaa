"""How everything here is measured.

A *cell* is one library in one setting. Each cell runs in a fresh process with the same number of
threads and the same allocator settings, warms up, and is timed in short stretches; a stretch during
which other processes used the processor is thrown away. Cells are interleaved (all of them once,
then all of them again), and the median over the rounds is reported, so that a slow minute of the
machine hits every library alike.

A benchmark is a script with ``main`` (the parent) and cells (the children):

    harness.Arguments(__doc__)                         the command line that all of them share
    harness.run(__file__, {"library": "FrEIA", ...})   in the parent, gives the child's dictionary
    harness.start(main, measure)                       main in the parent, measure(cell) in the child
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

# glibc gives big buffers back to the kernel after every step, and page faults then cost everybody
# 10-20 %. These settings let it keep them; each cell gets the same.
ALLOCATOR = {
    "MALLOC_TOP_PAD_": str(64 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the largest value glibc accepts
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}

OTHERS_MAY_USE = 0.05  # of the machine, for a stretch to count


# ---- the command line ---------------------------------------------------------------------------


class Arguments(argparse.ArgumentParser):
    """A parser with the options that benchmarks share: --quick, --out and, if wanted, others.

    Args:
        doc: of the script; its first line is the help.
        threads: the default of --threads, 0 for all cores.
        rounds: how many rounds a run has, and a quick one.
        quick, out: False leaves that option out.
        cluster: True for cells that measure no time, which may be shared out: --cluster, for
            `interleaved`.
    """

    def __init__(
        self,
        doc: str | None,
        *,
        threads: int | None = None,
        rounds: tuple[int, int] | None = None,
        quick: bool = True,
        out: bool = True,
        cluster: bool = False,
    ):
        super().__init__(description=(doc or "").splitlines()[0])
        self._rounds = rounds
        self.set_defaults(quick=False, out=None)
        if quick:
            self.add_argument("--quick", action="store_true", help="small and short: does it run?")
        if out:
            where = "results, quick: runs/bench" if quick else "results"
            self.add_argument("--out", type=Path, help=f"folder (default: {where})")
        if cluster:
            self.add_argument("--cluster", help="local:4, or the address of a Dask scheduler")
        if threads is not None:
            self.add_argument("--threads", type=int, default=threads or os.cpu_count() or 1)
        if rounds is not None:
            self.add_argument("--rounds", type=int)

    def parse_args(self, *given):
        args = super().parse_args(*given)
        args.out = args.out or (Path("runs/bench") if args.quick else None)
        if self._rounds is not None:
            args.rounds = args.rounds or self._rounds[args.quick]
        return args


def start(main: Callable[[], object], measure: Callable[[dict], dict]) -> None:
    """``main`` in the parent; in a child, the answer of ``measure`` to the cell it is to run."""
    text = os.environ.get("BENCHMARK_CELL")
    if text:
        print(json.dumps(measure(json.loads(text))))
    else:
        main()


# ---- the parent ---------------------------------------------------------------------------------


def run(script: str, cell: dict, threads: int, timeout: float = 3600) -> dict:
    """Run ``cell`` of ``script`` in a fresh process; its result, or {"error": last line}."""
    environment = {
        **os.environ,
        **ALLOCATOR,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "BENCHMARK_CELL": json.dumps(cell),
    }
    try:
        done = subprocess.run(
            [sys.executable, script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {timeout:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    return json.loads(lines[-1])


def interleaved(
    script: str, cells: list[dict], rounds: int, threads: int, cluster: str | None = None
) -> list[list[dict]]:
    """The results of each cell, one per round; every round runs all cells once.

    On a ``cluster`` cells run side by side, in the order in which its workers come to them; it has to
    see this folder under the same path. What is finished is kept until all is.
    """
    if cluster is not None:
        return _shared_out(script, cells, rounds, threads, cluster)
    results: list[list[dict]] = [[] for _ in cells]
    for i in range(rounds):
        for cell, found in zip(cells, results, strict=True):
            found.append(run(script, cell, threads))
            label = ", ".join(str(v) for v in cell.values())
            print(f"round {i + 1}/{rounds}: {label}: {found[-1]}", file=sys.stderr, flush=True)
    return results


def _shared_out(
    script: str, cells: list[dict], rounds: int, threads: int, cluster: str
) -> list[list[dict]]:
    import innverse
    from innverse.clusters import Chunk, Failure
    from innverse.clusters import run as run_chunks
    from innverse.clusters.records import forget
    from innverse.progress import Progress

    path = Path(script).resolve()

    def measured(script: str, cell: dict, progress: Callable) -> dict:
        import sys
        from pathlib import Path

        sys.path.insert(0, str(Path(script).parent))
        import harness

        return harness.run(script, cell, threads)

    sent = [*cells] * rounds
    chunks = [Chunk(f"cell {k + 1}", lambda cell=cell: cell) for k, cell in enumerate(sent)]
    records = RESULTS.parents[1] / "runs" / "cells" / path.stem
    found: dict[int, dict] = {}
    with innverse.cluster(cluster), Progress(path.stem, len(sent), unit="cell") as progress:
        shared_out = run_chunks(measured, chunks, str(path), records=records, progress=progress)
        for k, one in shared_out:
            found[k] = {"error": str(one.error)} if isinstance(one, Failure) else one
    forget(records)
    return [[found[i * len(cells) + k] for i in range(rounds)] for k in range(len(cells))]


def summaries(cells: list[dict], results: list[list[dict]]) -> list[dict]:
    """One row per cell: the medians of its numbers over the rounds, and the range of "seconds".

    ``idle`` says whether the machine was quiet in all rounds; ``error`` holds the last failure.
    """
    rows = []
    for cell, found in zip(cells, results, strict=True):
        keys = sorted({k for r in found for k in r} - {"idle", "error", "steps"})
        row = {**cell, **{k: median(found, k) for k in keys}}
        times = [r["seconds"] for r in found if "seconds" in r]
        row |= {"range": [min(times), max(times)]} if times else {}
        row["idle"] = all(r.get("idle", True) for r in found)
        errors = [r["error"] for r in found if "error" in r]
        row |= {"error": errors[-1]} if errors else {}
        rows.append(row)
    return rows


def median(results: list[dict], key: str) -> float | None:
    """The median of ``key`` over the rounds that have it."""
    values = [r[key] for r in results if r.get(key) is not None]
    return statistics.median(values) if values else None


def machine(packages: tuple[str, ...], threads: int) -> dict:
    """What a reader needs to judge the numbers."""
    info: dict = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "python": platform.python_version(),
    }
    flags = (_first_line("/proc/cpuinfo", "flags") or "").split()
    info["instructions"] = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags]
    for name in packages:
        try:
            info[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            info[name] = None
    return info


def _processor() -> str:
    """Its name, with family and model: virtual machines call several generations "AMD EPYC"."""
    name, family, model = (
        _first_line("/proc/cpuinfo", key) for key in ("model name", "cpu family", "model")
    )
    if name is None:
        return platform.processor()
    return name if None in (family, model) else f"{name} (family {family}, model {model})"


def machine_text(info: dict, packages: tuple[str, ...], rounds: int) -> str:
    """What `machine` found, and how it was measured, in words."""
    versions = ", ".join(f"{n} {info[n]}" for n in packages)
    return (
        f"{info['processor']}, {info['cores']} cores ({', '.join(info['instructions'])}), "
        f"{info['threads']} threads, {info['memory_gb']} GB, {info['system']}, "
        f"Python {info['python']}; {versions}.\nEvery cell in a fresh process with the same allocator "
        f"settings; median of {rounds} interleaved rounds.\n"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(name: str, markdown: str, data: dict, folder: Path | None = None) -> None:
    """Save ``results/name.md`` and ``results/name.json``."""
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(markdown)
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    print(f"wrote {name}.md and {name}.json in {folder}", file=sys.stderr)


def with_earlier(name: str, rows: list[dict], key, same: dict, folder: Path | None) -> list[dict]:
    """``rows``, and those rows of the last run, on the same machine, whose ``key(row)`` is not theirs.

    For runs of a part. ``same``: what the file and this run must agree in.
    """
    file = (folder or RESULTS) / f"{name}.json"
    if not file.exists():
        return rows
    found = json.loads(file.read_text())
    for what, value in same.items():
        if found.get(what) != value:
            raise SystemExit(
                f"{file} has {what} {found.get(what)}, this run {value}: run all parts"
            )
    done = {key(row) for row in rows}
    return rows + [row for row in found["cells"] if key(row) not in done]


def by_processor(name: str, folder: Path | None) -> dict[str, dict]:
    """The last run of every processor in ``results/name.json``: the file is the last run of all, and
    keeps those of ``others``."""
    file = (folder or RESULTS) / f"{name}.json"
    if not file.exists():
        return {}
    last = json.loads(file.read_text())
    others = last.pop("others", [])
    return {run["machine"]["processor"]: run for run in (last, *others)}


def write_by_processor(
    name: str, title: str, section: Callable[[dict], str], run: dict, folder: Path | None = None
) -> None:
    """Print and save ``run``, and after it the last ones of other processors in the file."""
    earlier = by_processor(name, folder)
    earlier.pop(run["machine"]["processor"], None)
    others = list(earlier.values())
    text = f"# {title}\n\n" + "\n".join(map(section, (run, *others)))
    print(text)
    write(name, text, run | {"others": others}, folder)


def write_atomically(path: Path, data: dict) -> None:
    """JSON that is whole at every moment, whoever reads or stops; lists of numbers on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    text = re.sub(
        r"(?<=\[)[^][{}\"]+(?=\])", lambda m: " ".join(m[0].split()), json.dumps(data, indent=1)
    )
    temporary.write_text(text + "\n")
    os.replace(temporary, path)


# ---- the child ----------------------------------------------------------------------------------


def use(threads: int) -> None:
    """Compute with so many threads, and take denormals, which are slow, for 0."""
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def train(
    parameters, loss: Callable, budget: float, *, lr: float, clip: float, warm_up: int = 1
) -> dict:
    """The same training for every library: Adam with half a cosine over processor seconds.

    ``loss()`` is that of a fresh batch. A step with a gradient that is not finite is left out.
    """
    import torch

    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, lr, fused=True)
    steps = skipped = 0
    begin = time.process_time()
    while (spent := (time.process_time() - begin) / budget) < 1:
        rate = min(1.0, (steps + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * spent))
        optimizer.param_groups[0]["lr"] = lr * rate
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
        steps += 1
        if math.isfinite(norm):
            optimizer.step()
        else:
            skipped += 1
    took = time.process_time() - begin
    return {"training_seconds": took, "training_steps": steps, "skipped": skipped}


def seconds(step: Callable[[], object], warm_up: int = 3, enough: float = 3.0) -> dict:
    """Median seconds of ``step``, from stretches of 0.5 s until ``enough`` seconds are good.

    Gives up waiting for a quiet machine after ten times that; ``idle`` says whether it was quiet.
    """
    for _ in range(warm_up):
        step()
    good: list[float] = []
    noisy: list[float] = []
    begin = time.perf_counter()
    while sum(good) < enough or len(good) < 3:
        times: list[float] = []
        before = _busy()
        while sum(times) < 0.5:
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        (good if _others(before, _busy()) <= OTHERS_MAY_USE else noisy).extend(times)
        if time.perf_counter() - begin > 10 * enough + 10 * times[0]:
            break
    times = good or noisy
    return {
        "seconds": statistics.median(times),
        "fastest": min(times),
        "steps": len(times),
        "idle": bool(good),
    }


def peak_tensor_bytes(step: Callable[[], object]) -> int:
    """As `innverse.metrics.memory.peak_tensor_bytes`, imported in the child only."""
    from innverse.metrics.memory import peak_tensor_bytes

    return peak_tensor_bytes(step)


def _busy() -> tuple[float, float, float] | None:
    """Ticks: (all cores busy, this process busy, all cores in total); None where unknown."""
    try:
        fields = [int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return None
    own = os.times()
    ticks = os.sysconf("SC_CLK_TCK")
    idle = fields[3] + fields[4]
    return sum(fields) - idle, (own.user + own.system) * ticks, sum(fields)


def _others(before, after) -> float:
    """The share of the machine that other processes used in between."""
    if before is None or after is None:
        return 0.0
    busy, own, total = (b - a for a, b in zip(before, after, strict=True))
    return max(0.0, busy - own) / max(1.0, total)


def _first_line(path: str, key: str) -> str | None:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return None
