"""Every question about speed and memory in one table, with its target, wins and losses alike.

    python benchmarks/speed.py [--out FOLDER]

Reads what the other benchmarks left in results/, where they keep several processors that of step.json,
and writes speed.md, speed.json and speed.png:
{"machine", "targets": [{"question", "ours", "best_peer", "peer", "ratio", "target", "met"}],
"cells"}. A ratio is always "how many times better than the best other library".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import harness


def read(name: str) -> dict:
    """What a benchmark left; of several processors that of the last step.json."""
    runs = harness.by_processor(name, None)
    if len(runs) < 2 or name == "step":
        return next(iter(runs.values()), {})
    return runs.get(read("step")["machine"]["processor"], {})


@dataclass
class Target:
    """A question, the answer, and what it should be: at least so many times better than the best
    other library, or, where there is none, at most so much."""

    question: str
    ours: float
    best_peer: float | None
    peer: str | None
    unit: str
    ratio: float | None
    target: float
    met: bool


def question(text: str, ours, peers: list[tuple], target: float, unit: str = "s") -> list[Target]:
    """One target: ``peers`` holds (value, name), smaller is better; nothing if not measured."""
    peers = [(value, name) for value, name in peers if value]
    if not ours or not peers:
        return []
    best, name = min(peers)
    return [Target(text, ours, best, name, unit, best / ours, target, best / ours >= target)]


def limit(text: str, ours, most: float, unit: str) -> list[Target]:
    """One target without a rival: ``ours`` may be at most ``most``; the ratio is most / ours."""
    if ours is None:
        return []
    return [Target(text, ours, None, None, unit, most / ours if ours else None, most, ours <= most)]


def split(rows: list[dict], key: str = "seconds") -> tuple[float | None, list[tuple]]:
    """(the least of ours, what the others have): ``key`` of the rows."""
    ours = [row[key] for row in rows if row["library"] == "innverse" and row.get(key)]
    peers = [(row.get(key), row["library"]) for row in rows if row["library"] != "innverse"]
    return min(ours, default=None), peers


def of_step() -> list[Target]:
    data = read("step")
    speed, memory = data.get("speed", []), data.get("memory", [])
    fp32, bf16 = ([r for r in speed if bool(r.get("bf16")) == low] for low in (False, True))
    found = question("Glow K=8, training step, float32", *split(fp32), 1.3)
    found += question("Glow K=8, training step, bf16", *split(bf16), 1.5)
    lost = read("bf16").get("difference")
    if lost is not None:
        found += limit("bits/dim lost by bf16 networks, 3 seeds", abs(lost), 0.01, "bits")
    mine = [r for r in memory if r["library"] == "innverse"]
    if mine:
        least = min(mine, key=lambda r: r["activation_bytes"])
        rows = [r for r in memory if r is least or r["library"] != "innverse"]
        what = f"Glow K=64, {{}} ({least['memory']})"
        found += question(what.format("activations"), *split(rows, "activation_bytes"), 10, "bytes")
        found += question(what.format("time at that memory"), *split(rows), 1)
    return found


def of_memory() -> list[Target]:
    rows = {
        (r["memory"], r["depth"]): r for r in read("memory").get("cells", []) if r["size"] == 32
    }
    if ("reversible", 16) not in rows or ("reversible", 128) not in rows:
        return []
    grown = rows["reversible", 128]["bytes"] / rows["reversible", 16]["bytes"]
    slower = rows["reversible", 128]["seconds"] / rows["store", 128]["seconds"]
    return [
        *limit("memory at K=128 / at K=16, reversible", grown, 1.15, "ratio"),
        *limit("time at K=128, reversible / store", slower, 1.35, "ratio"),
    ]


# (kind, D): (call, target) against every library, then (call, peer, target) against one
VECTORS = {
    ("affine", 64): ([("step", 1.5), ("log_prob", 1.8), ("sample", 1.8)], []),
    ("affine", 6): ([], [("step", "flowjax", 1.0), ("step", "torch", 1.6)]),
    ("spline", 64): (
        [],
        [("step", "nflows", 2.5), ("step", "flowjax", 2.0), ("log_prob", "nflows", 3.0)],
    ),
    ("spline", 6): ([], [("step", "torch", 2.0)]),
}


def of_vectors() -> list[Target]:
    cells, found = read("vectors").get("cells", []), []
    for (kind, d), (against_all, against_one) in VECTORS.items():
        rows = [r for r in cells if (r["kind"], r["d"]) == (kind, d)]
        for call, target in against_all:
            sides = split(rows, "seconds" if call == "step" else call)
            found += question(f"{kind} couplings D={d}, {call}", *sides, target)
        for call, peer, target in against_one:
            ours, peers = split(rows, "seconds" if call == "step" else call)
            # of those that run on torch the best
            peers = [
                (value, name)
                for value, name in peers
                if name == peer or (peer == "torch" and name != "flowjax")
            ]
            found += question(
                f"{kind} couplings D={d}, {call}, against {peer}", ours, peers, target
            )
    return found


def of_inverse_loop() -> list[Target]:
    cells, found = read("inverse_loop").get("cells", []), []
    for batch in (16, 1):
        rows = [r for r in cells if r["batch"] == batch]
        found += question(f"gradient of the misfit of A G(z), batch {batch}", *split(rows), 1.5)
    return found


def of_peak() -> list[Target]:
    row = next((r for r in read("peak").get("cells", []) if r["library"] == "innverse"), None)
    if row is None:
        return []
    text = "step of Glow, seconds at 0.55 of the convolution peak"
    allowed = row["gflop"] / (0.55 * read("peak")["peak"]["gflops"])
    return limit(text, row["seconds"], allowed, "s")


def of_startup() -> list[Target]:
    cells = {r["name"]: r for r in read("startup").get("cells", [])}
    found = []
    for name in ("import innverse", "innverse --help"):
        if name in cells:
            found += limit(f"{name} / import torch", cells[name]["ratio"], 1.15, "ratio")
    first = next((r for n, r in cells.items() if n.startswith("first log_prob")), None)
    return found + (limit(first["name"], first["seconds"], 3.0, "s") if first else [])


# scale, digits and name of what is shown
UNITS = {
    "s": (1e3, 1, " ms"),
    "bytes": (1e-6, 0, " MB"),
    "ratio": (1, 2, ""),
    "bits": (1, 4, " bits/dim"),
}


def shown(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    scale, digits, name = UNITS[unit]
    return f"{value * scale:.{digits}f}{name}"


def table(targets: list[Target]) -> str:
    lines = []
    for t in targets:
        alone = t.best_peer is None
        lines.append(
            [
                t.question,
                shown(t.ours, t.unit),
                shown(t.best_peer, t.unit),
                t.peer or "–",
                "–" if alone else f"{t.ratio:.2f}",
                f"≤ {shown(t.target, t.unit)}" if alone else f"≥ {t.target:g}",
                "met" if t.met else "**missed**",
            ]
        )
    return harness.table(["question", "innverse", "best other", "", "ratio", "target", ""], lines)


def plot(targets: list[Target], path: Path) -> None:
    """Ratio of every comparison as a bar, its target as a tick."""
    from matplotlib.figure import Figure

    rows = [t for t in targets if t.best_peer is not None][::-1]
    figure = Figure(figsize=(9, 0.35 * len(rows) + 1), layout="constrained")
    axes = figure.add_subplot()
    colours = ["#3a8f5c" if t.met else "#c8553d" for t in rows]
    axes.barh([t.question for t in rows], [t.ratio for t in rows], color=colours)
    for y, t in enumerate(rows):
        axes.plot([t.target] * 2, [y - 0.4, y + 0.4], color="black")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xlabel("times better than the best other library; black: target")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    args = harness.Arguments(__doc__, quick=False).parse_args()
    targets = [
        *of_step(),
        *of_memory(),
        *of_vectors(),
        *of_inverse_loop(),
        *of_peak(),
        *of_startup(),
    ]
    names = ("step", "bf16", "memory", "vectors", "inverse_loop", "peak", "startup")
    cells = {name: {k: v for k, v in read(name).items() if k != "machine"} for name in names}
    info = read("vectors").get("machine") or read("step").get("machine", {})
    processor = info.get("processor", "an unknown processor")
    met = sum(t.met for t in targets)
    text = "\n".join(
        [
            "# Speed and memory: all questions\n",
            "![Ratios and targets](speed.png)\n",
            f"{met} of {len(targets)} targets met on {processor}. A ratio under 1.2 is noise there. "
            "Details, of other processors too: "
            + ", ".join(f"[{n}]({n}.md)" for n in names)
            + ".\n",
            table(targets) + "\n",
        ]
    )
    print(text)
    plot(targets, (args.out or harness.RESULTS) / "speed.png")
    harness.write(
        "speed",
        text,
        {"machine": info, "targets": list(map(asdict, targets)), "cells": cells},
        args.out,
    )


if __name__ == "__main__":
    main()
