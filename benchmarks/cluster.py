"""Many small solves by the workers of a cluster: throughput, and what a chunk costs besides its solves.

    .venv/bin/python benchmarks/cluster.py [--solves 10000] [--workers 1 2 4] [--out FOLDER]

Pictures of 8x8 are denoised by total variation, 64 a chunk, with local clusters of 1, 2 and 4 workers,
and in this process without a cluster. What a chunk costs besides its work is measured by chunks that do
nothing. All clusters have to give the same bits. A cluster that is done is
not measured again: the file in --out grows one by one.
"""

from __future__ import annotations

import json
import math
import pickle
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
import torch

import innverse
from innverse.clusters import Chunk, digest, run
from innverse.restoration import many

SIDE, LARGER = 8, 64
PACKAGES = ("torch", "distributed")
_EMPTY = 400  # chunks that do nothing


def nothing(shared: Any, payload: Any, progress: Any) -> Any:
    return payload


def pictures(n: int) -> list[torch.Tensor]:
    return [*torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))]


def solved(given: list[torch.Tensor]) -> tuple[float, str]:
    """Seconds, and the digest of all results."""
    begin = time.perf_counter()
    results = innverse.restore(given, "denoising", noise=0.1, simulate=True, method="tv")
    spent = time.perf_counter() - begin
    return spent, digest([r.image for r in results])


def measure(workers: int, solves: int, empty: int) -> dict:
    """One cluster, or 0 workers: none."""
    given = pictures(solves)
    if workers == 0:
        solved(given[: many._INPUTS])
        spent, found = solved(given)
        return {"workers": 0, "seconds": spent, "per_second": solves / spent, "digest": found}
    begin = time.perf_counter()
    with innverse.cluster(f"local:{workers}") as cluster:
        while cluster.workers < workers:
            time.sleep(0.1)
        started = time.perf_counter() - begin
        # every worker has loaded what it needs before the clock starts
        solved(given[: 8 * workers * many._INPUTS])
        spent, found = solved(given)
        chunks = [Chunk(f"nothing {k}", lambda k=k: k) for k in range(empty)]
        begin, worked = time.perf_counter(), time.process_time()
        assert len(dict(run(nothing, chunks))) == empty
        overhead = (time.perf_counter() - begin) / empty
        own = (time.process_time() - worked) / empty
    return {
        "workers": workers, "seconds": spent, "per_second": solves / spent, "digest": found,
        "start_seconds": started, "overhead_seconds": overhead, "scheduler_seconds": own,
    }  # fmt: skip


def one_chunk(n: int) -> dict:
    """Of a chunk of pictures of 64x64 as files, denoised by plug and play: bytes there and back, its
    processor seconds, and the bytes of what all chunks share."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in"), Path(folder, "out")
        x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        x = torch.nn.functional.interpolate(x, (LARGER, LARGER), mode="bicubic").clamp(0, 1)
        for k, one in enumerate(x):
            innverse.data.write_image(source / f"{k}.png", one)
        begin = time.process_time()
        innverse.restore(source, "denoising", noise=0.1, method="pnp", simulate=True, out=out)
        spent = time.process_time() - begin
        there, back = (
            sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / n
            for place in (source, out)
        )
    prior = len(pickle.dumps(innverse.load("natural-gray")))
    return {"there": there, "back": back, "seconds": spent / n, "prior": prior}


# ---- on paper -----------------------------------------------------------------------------------

PICTURES, MACHINES, CORES = 1e9, 1000, 32
PRICE = 0.04  # of a core for an hour, in dollars
LOST = 0.05  # of the machines in an hour, where they may be taken away
NETWORK = 250e6  # bytes a second that a client reads, writes and sends
BUSY = 0.5  # of its processor, for a scheduler


def on_paper(chunk: dict, overhead: float) -> dict:
    """A billion pictures of 64x64 by a thousand machines, as chunks of 64."""
    workers, size = MACHINES * CORES, many._INPUTS
    seconds = size * chunk["seconds"]
    moved = PICTURES * (chunk["there"] + chunk["back"]) + MACHINES * CORES * chunk["prior"]
    hours = PICTURES * chunk["seconds"] / workers / 3600
    of_scheduler = BUSY * seconds / overhead
    of_network = NETWORK * chunk["seconds"] / (chunk["there"] + chunk["back"])
    failures = LOST * MACHINES
    again = failures * CORES * seconds / 2 / 3600 / workers  # half a chunk each time
    return {
        "chunks": PICTURES / size,
        "seconds_a_chunk": seconds,
        "terabytes": moved / 1e12,
        "hours": hours,
        "workers_a_scheduler": of_scheduler,
        "workers_a_client": of_network,
        "schedulers": math.ceil(workers / min(of_scheduler, of_network)),
        "failures_an_hour": failures,
        "done_again": again,
        "dollars": PRICE * workers * hours * (1 + again),
    }


def text_of(found: dict) -> str:
    rows, chunk, paper = found["rows"], found["chunk"], found["paper"]
    single = next((r for r in rows if r["workers"] == 1), None)
    lines = []
    for r in rows:
        line = ["no cluster", f"{r['seconds']:.1f}", f"{r['per_second']:.0f}", "", "", "", ""]
        if r["workers"]:
            line[0] = str(r["workers"])
            line[3] = f"{r['per_second'] / single['per_second']:.2f}" if single else ""
            line[4:] = (
                f"{1e3 * r['overhead_seconds']:.1f}",
                f"{1e3 * r['scheduler_seconds']:.1f}",
                f"{r['start_seconds']:.1f}",
            )
        lines.append(line)
    each = f"{chunk['seconds']:.2f}, {paper['seconds_a_chunk']:.0f}"
    head = [
        "workers", "seconds", "solves a second", "times one worker", "ms a chunk",
        "of them scheduler and client", "s to start",
    ]  # fmt: skip
    info = found["machine"]
    sheet = [
        ["chunks of 64 pictures", f"{paper['chunks'] / 1e6:.1f} million"],
        ["processor seconds a picture, a chunk", each],
        ["bytes a picture, there and back", f"{chunk['there']:,.0f} + {chunk['back']:,.0f}"],
        ["bytes of the prior, once to each worker", f"{chunk['prior']:,}"],
        ["moved in all", f"{paper['terabytes']:.1f} TB"],
        ["hours", f"{paper['hours']:.1f}"],
        ["workers that one scheduler keeps busy", f"{paper['workers_a_scheduler']:,.0f}"],
        ["workers whose bytes one client carries", f"{paper['workers_a_client']:,.0f}"],
        ["schedulers, each with a share of the pictures", f"{paper['schedulers']}"],
        ["machines lost in an hour", f"{paper['failures_an_hour']:.0f}"],
        ["work done again", f"{100 * paper['done_again']:.2f} %"],
        ["cost", f"${paper['dollars']:,.0f}"],
    ]  # fmt: skip
    return (
        "# Many small solves on a cluster\n\n"
        f"{found['solves']:,} pictures of {SIDE}x{SIDE}, denoised by total variation, {many._INPUTS} a "
        f"chunk. ms a chunk: what one costs besides its work, of {found['empty']} that do nothing, all "
        "workers together; of them scheduler and client: processor time of the process that holds "
        f"both. {info['processor']}, {info['cores']} cores for workers, scheduler and client, and "
        f"whatever else ran; {', '.join(f'{n} {info[n]}' for n in PACKAGES)}. The results of all "
        f"clusters are {'the same, bit for bit' if found['same'] else 'NOT THE SAME'}.\n\n"
        f"{harness.table(head, lines)}\n\n"
        "## On paper: a billion pictures, a thousand machines\n\n"
        f"Pictures of {LARGER}x{LARGER}, gray, denoised by plug and play with natural-gray; "
        f"{MACHINES:,} machines of {CORES} cores like this one's, a worker on each; ${PRICE:g} for a "
        f"core and an hour; {100 * LOST:g} % of the machines are taken away in an hour; a client "
        f"moves {NETWORK / 1e6:.0f} MB a second; a scheduler is busy for {100 * BUSY:g} % of its "
        "time.\n\n"
        f"{harness.table(['', ''], sheet)}\n"
    )


def main() -> None:
    parser = harness.Arguments(__doc__)
    parser.add_argument("--solves", type=int)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    args = parser.parse_args()
    torch.set_num_threads(1)
    solves = args.solves or (128 if args.quick else 10_000)
    empty = 20 if args.quick else _EMPTY
    file = (args.out or harness.RESULTS) / "cluster.json"
    about = {"solves": solves, "empty": empty, "machine": harness.machine(PACKAGES, 1)}
    kept = json.loads(file.read_text()) if file.exists() else {}
    rows = kept["rows"] if {k: kept.get(k) for k in about} == about else []
    for workers in [0, *args.workers]:
        if all(row["workers"] != workers for row in rows):
            rows.append(measure(workers, solves, empty))
            print(rows[-1], flush=True)
            _write(about | {"rows": rows, "same": _same(rows)}, kept, args.out)
    print(file.with_suffix(".md").read_text())


def _write(found: dict, kept: dict, out: Path | None) -> None:
    chunk = kept.setdefault("chunk", None) or one_chunk(2 if found["empty"] < _EMPTY else 8)
    kept["chunk"] = chunk
    overheads = [r["scheduler_seconds"] for r in found["rows"] if r["workers"]]
    found |= {"chunk": chunk, "paper": on_paper(chunk, max(overheads, default=0.01))}
    harness.write("cluster", text_of(found), found, out)


def _same(rows: list[dict]) -> bool:
    return len({row["digest"] for row in rows if row["workers"]}) <= 1


if __name__ == "__main__":
    main()
