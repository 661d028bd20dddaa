"""Many small solves by the workers of a cluster: throughput, and what a chunk costs besides its solves.

    .venv/bin/python benchmarks/cluster.py [--solves 10000] [--workers 1 2 4] [--out FOLDER]

Pictures of 8x8 are denoised by total variation, 64 a chunk, with local clusters of 1, 2 and 4 workers,
and in this process without a cluster. What a chunk costs besides its work is measured by chunks that do
nothing; its bytes by what travels. All clusters have to give the same bits. A cluster that is done is
not measured again: the file in --out grows one by one.
"""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import harness
import torch

import innverse
from innverse.clusters import Chunk, digest, run
from innverse.clusters.packing import pack
from innverse.restoration import many

SIDE = 8
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
        begin = time.perf_counter()
        assert len(dict(run(nothing, chunks))) == empty
        overhead = (time.perf_counter() - begin) / empty
    return {
        "workers": workers, "seconds": spent, "per_second": solves / spent, "digest": found,
        "start_seconds": started, "overhead_seconds": overhead,
    }  # fmt: skip


def travelling() -> dict:
    """Bytes of a chunk there and back, and of what all chunks share."""
    given = pictures(many._INPUTS)
    (one,) = innverse.restore(given[:1], "denoising", noise=0.1, simulate=True, method="tv")
    names = ("source", "image", "std", "draws", "status", "converged", "notes", "summary")
    back = [{name: getattr(one, name) for name in names} | {"files": {}, "error": None}]
    prior = innverse.load("natural-gray")
    return {
        "pictures_a_chunk": many._INPUTS,
        "bytes_there": len(pickle.dumps(given)),
        "bytes_back": len(pack(back * many._INPUTS)),
        "bytes_of_prior": len(pickle.dumps(prior)),
    }


def text_of(found: dict) -> str:
    rows, moved = found["rows"], found["moved"]
    single = next((r for r in rows if r["workers"] == 1), None)
    lines = []
    for r in rows:
        gain = f"{r['per_second'] / single['per_second']:.2f}" if single and r["workers"] else ""
        overhead = f"{1e3 * r['overhead_seconds']:.1f}" if r["workers"] else ""
        start = f"{r['start_seconds']:.1f}" if r["workers"] else ""
        who = str(r["workers"]) if r["workers"] else "no cluster"
        lines.append([who, f"{r['seconds']:.1f}", f"{r['per_second']:.0f}", gain, overhead, start])
    head = ["workers", "seconds", "solves a second", "times one worker", "ms a chunk", "s to start"]
    info = found["machine"]
    return (
        "# Many small solves on a cluster\n\n"
        f"{found['solves']:,} pictures of {SIDE}x{SIDE}, denoised by total variation, "
        f"{moved['pictures_a_chunk']} a chunk. ms a chunk: what one costs besides its work, of "
        f"{found['empty']} that do nothing, all workers together. {info['processor']}, "
        f"{info['cores']} cores for the workers, the scheduler and the client; "
        f"{', '.join(f'{n} {info[n]}' for n in PACKAGES)}. The results of all clusters are "
        f"{'the same, bit for bit' if found['same'] else 'NOT THE SAME'}.\n\n"
        f"{harness.table(head, lines)}\n\n"
        f"A chunk: {moved['bytes_there']:,} bytes there, {moved['bytes_back']:,} back; the prior "
        f"natural-gray: {moved['bytes_of_prior']:,} bytes, once to each worker.\n"
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
            found = about | {"rows": rows, "moved": travelling(), "same": _same(rows)}
            harness.write("cluster", text_of(found), found, args.out)
    print(text_of(json.loads(file.read_text())))


def _same(rows: list[dict]) -> bool:
    return len({row["digest"] for row in rows if row["workers"]}) <= 1


if __name__ == "__main__":
    main()
