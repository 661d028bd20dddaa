"""What a run of ``innverse reproduce asim2020`` says about each of the study's questions.

    innverse reproduce asim2020 --full --data faces_test.tar --out runs/asim2020 [--only PATTERN]
    .venv/bin/python benchmarks/asim2020.py runs/asim2020

Two methods are compared over those pictures that both have solved, which may be fewer than either
alone where a run is not finished; ``n`` says how many. Writes asim2020.md, asim2020.json and
asim2020.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
from itertools import combinations
from pathlib import Path

import harness

from innverse.report.plots import COLOURS, mark_log_x, new_figure, tidy
from innverse.reproduce import published
from innverse.reproduce.protocol import METHODS

PACKAGES = ("torch", "innverse")
NOT_FLOWS = ("vae", "gan")
# the paper's latent search, and the exact density's maximum from where half of it ended
FLOWS = {"flow": "flow, latent search", "flow_map": "flow, latent search then MAP"}
SENSING = "compressed_sensing"
PANELS = {
    "celebahq": "CelebA-HQ (in distribution)",
    "ffhq": "FFHQ (shifted)",
    "birds": "birds (out of distribution)",
    "flowers": "flowers (out of distribution)",
}


class Run:
    """PSNR and evaluations of every picture, from results.csv."""

    def __init__(self, folder: Path):
        self.rows: dict[tuple[str, str, str, str], dict[str, dict]] = {}
        with (folder / "results.csv").open() as file:
            for row in csv.DictReader(file):
                key = tuple(row[k] for k in ("experiment", "setting", "set", "method"))
                self.rows.setdefault(key, {})[row["image"]] = row

    def mean(self, *key: str, of: str = "psnr", images=None) -> tuple[float | None, int]:
        """(mean over the pictures, or over ``images`` among them; their number)."""
        rows = self.rows.get(key, {})
        values = [float(r[of]) for i, r in rows.items() if images is None or i in images]
        return (sum(values) / len(values) if values else None), len(values)

    def curve(self, group: str, name: str) -> list[tuple[float, float, float]]:
        """(m/n, mean PSNR, its standard error) in compressed sensing, sorted."""
        points = []
        for (experiment, setting, g, n), rows in self.rows.items():
            if (experiment, g, n) == (SENSING, group, name):
                values = [float(r["psnr"]) for r in rows.values()]
                bar = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
                points.append((float(setting), statistics.fmean(values), bar))
        return sorted(points)

    def gain(self, experiment: str, setting: str, group: str, name: str, over: str):
        """(mean PSNR of ``name`` less that of ``over`` on the same pictures, their number)."""
        keys = [(experiment, setting, group, k) for k in (name, over)]
        both = set(self.rows.get(keys[0], {})) & set(self.rows.get(keys[1], {}))
        (a, n), (b, _) = (self.mean(*k, images=both) for k in keys)
        return (None if a is None or b is None else a - b), n


def targets(run: Run) -> list[dict]:
    """{question, value, n, target, met}; what was not run is left out."""
    sensing, found = SENSING, []

    def ask(question: str, answer: tuple[float | None, int], target: float | None) -> None:
        value, n = answer
        if value is not None:
            met = None if target is None else value >= target
            found.append(
                {"question": question, "value": value, "n": n, "target": target, "met": met}
            )

    for method, label in FLOWS.items():
        for group, least in (("celebahq", 32.0), ("ffhq", 29.1)):
            question = f"{label}, m/n = 0.2, {group}"
            ask(question, run.mean(sensing, "0.2", group, method), least)
        for group, least in (("celebahq", 9.0), ("ffhq", 7.0), ("birds", 7.0), ("flowers", 5.0)):
            question = f"{label}, above Lasso with cosines, m/n = 0.2, {group}"
            ask(question, run.gain(sensing, "0.2", group, method, "lasso_dct"), least)
        for other in NOT_FLOWS:
            for group in ("celebahq", "ffhq"):
                question = f"{label}, above the {other.upper()}, m/n = 0.2, {group}"
                ask(question, run.gain(sensing, "0.2", group, method, other), 8.0)
        for setting in ("0.081", "0.041"):
            question = f"{label}, above the deep decoder, m/n = {setting}, ffhq"
            ask(question, run.gain(sensing, setting, "ffhq", method, "deep_decoder"), 2.0)
    for setting in ("0.1", "0.2"):
        value, n = run.mean("denoising", setting, "celebahq", "flow")
        bm3d = published.DENOISING["celebahq"]["bm3d"][setting]
        answer = (None if value is None else value - bm3d), n
        ask(f"denoising at sigma {setting} above BM3D as published, celebahq", answer, 0.0)
        question = f"denoising at sigma {setting} above total variation, celebahq"
        ask(question, run.gain("denoising", setting, "celebahq", "flow", "tv"), None)
    return found


def orders(run: Run) -> list[list[str]]:
    """For every set and m/n: the methods from best to worst, ours and as published.

    Each method is compared with another on the pictures that both solved.
    """
    lines = []
    for group, methods in published.COMPRESSED_SENSING.items():
        for setting in dict.fromkeys(s for values in methods.values() for s in values):
            theirs = {name: v[setting] for name, v in methods.items() if setting in v}
            theirs = {n: v for n, v in theirs.items() if run.rows.get((SENSING, setting, group, n))}
            if len(theirs) < 2:
                continue
            gains = {
                pair: run.gain(SENSING, setting, group, *pair)[0] or 0.0
                for pair in combinations(theirs, 2)
            }
            same = sum(gain * (theirs[a] - theirs[b]) > 0 for (a, b), gain in gains.items())
            means = {name: run.mean(SENSING, setting, group, name)[0] for name in theirs}
            ranked = (" > ".join(sorted(v, key=v.get, reverse=True)) for v in (means, theirs))
            lines.append([group, setting, *ranked, f"{same} of {len(gains)}"])
    return lines


def plot(run: Run, path: Path) -> None:
    """PSNR against m/n of all methods, a panel for each set; dashed as published."""
    figure = new_figure((11, 7.4))
    shown = {}
    for k, (group, title) in enumerate(PANELS.items()):
        axes = figure.add_subplot(2, 2, k + 1)
        for (name, method), colour in zip(METHODS.items(), COLOURS, strict=True):
            points = run.curve(group, name)
            if points:
                line = axes.errorbar(
                    *zip(*points, strict=True), color=colour, marker="o", markersize=3.5, capsize=2
                )
                shown.setdefault(method.label, line)
            theirs = published.COMPRESSED_SENSING[group].get(name, {})
            if len(theirs) > 1:
                pairs = sorted((float(m), v) for m, v in theirs.items())
                (dashes,) = axes.plot(*zip(*pairs, strict=True), "--", color=colour, linewidth=1)
                shown.setdefault("as published", dashes)
        axes.set(title=title, xlabel="m / n", ylabel="PSNR, dB")
        mark_log_x(axes, [m for name in METHODS for m, *_ in run.curve(group, name)])
        tidy(axes)
    # the dashes last, however early one was drawn
    labels = sorted(shown, key=lambda label: label == "as published")
    handles = [shown[label] for label in labels]
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def evaluations(run: Run) -> list[list[str]]:
    """A line for every budget of both optimisers: evaluations and PSNR."""
    lines = []
    for (experiment, setting, group, name), rows in run.rows.items():
        if experiment == "evaluations":
            key = (experiment, setting, group, name)
            spent, psnr = run.mean(*key, of="evaluations")[0], run.mean(*key)[0]
            lines.append([f"{group}, {name}", str(len(rows)), f"{spent:.0f}", f"{psnr:.2f}"])
    return lines


def means(run: Run, experiment: str) -> str:
    """PSNR of every method, a line for each set and setting, the number of pictures behind it."""
    keys = [key[1:] for key in run.rows if key[0] == experiment]
    methods = list(dict.fromkeys(name for _, _, name in keys))
    lines = []
    for setting, group in dict.fromkeys((s, g) for s, g, _ in keys):
        found = [run.mean(experiment, setting, group, name) for name in methods]
        lines.append(
            [f"{group}, {setting}", *("" if v is None else f"{v:.2f} ({n})" for v, n in found)]
        )
    return harness.table(["", *methods], sorted(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the study")
    parser.add_argument("--threads", type=int, default=1, help="of the run, for the record")
    parser.add_argument("--out", type=Path, help="folder (default: results)")
    args = parser.parse_args()
    run = Run(args.run)
    info = harness.machine(PACKAGES, args.threads)
    found = targets(run)
    lines = [
        [
            t["question"],
            f"{t['value']:.2f}",
            str(t["n"]),
            "–" if t["target"] is None else f"≥ {t['target']:g}",
            {True: "met", False: "**missed**", None: ""}[t["met"]],
        ]
        for t in found
    ]
    experiments = [e for e in dict.fromkeys(k[0] for k in run.rows) if e != "evaluations"]
    about = (
        f"{info['processor']}; torch {info['torch']}, innverse {info['innverse']}. PSNR in dB on the "
        "test faces; behind a mean, in brackets, the number of pictures (all of a set, or as many as "
        "time allowed: then the first). Two methods are compared on the pictures that both solved.\n\n"
        "    innverse reproduce asim2020 --full --data faces_test.tar --out runs/asim2020\n"
        "    python benchmarks/asim2020.py runs/asim2020\n"
    )
    parts = [
        "# Flows as priors: the study of Asim et al. 2020 run again\n",
        about,
        harness.table(["question", "dB", "n", "target", ""], lines) + "\n",
        "![PSNR against m/n](asim2020.png)\n",
        "Best to worst, and how many pairs of methods stand as they do in the paper:\n",
        harness.table(["", "m/n", "here", "published", "pairs"], orders(run)) + "\n",
        *(f"## {e.replace('_', ' ')}\n\n{means(run, e)}\n" for e in experiments),
    ]
    curve = evaluations(run)
    if curve:
        header = ["", "pictures", "gradient evaluations", "PSNR, dB"]
        parts.append(f"## PSNR against evaluations\n\n{harness.table(header, curve)}\n")
    text = "\n".join(parts)
    print(text)
    results = json.loads((args.run / "results.json").read_text())
    kept = {k: results[k] for k in ("scale", "failures") if k in results}
    rows = [
        {"experiment": k[0], "setting": k[1], "set": k[2], "method": k[3], "n": len(r),
         "psnr": run.mean(*k)[0]}
        for k, r in run.rows.items()
    ]  # fmt: skip
    plot(run, (args.out or harness.RESULTS) / "asim2020.png")
    harness.write(
        "asim2020", text, {"machine": info, "targets": found, **kept, "rows": rows}, args.out
    )


if __name__ == "__main__":
    main()
