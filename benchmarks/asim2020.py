"""What a run of ``innverse reproduce asim2020`` says about each of the study's questions.

    innverse reproduce asim2020 --full --data faces_test.tar --out runs/asim2020 [--only PATTERN]
    .venv/bin/python benchmarks/asim2020.py runs/asim2020

Two methods are compared over those pictures that both have solved, which may be fewer than either
alone where a run is not finished; ``n`` says how many. Writes asim2020.md, asim2020.json and
asim2020.png.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from itertools import combinations
from pathlib import Path

import harness

from innverse.report.plots import draw_curves, new_figure
from innverse.studies.reproduce.figures import published_against_m
from innverse.studies.reproduce.protocol import METHODS, PUBLISHED

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
    found = []

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
            ask(question, run.mean(SENSING, "0.2", group, method), least)
        for group, least in (("celebahq", 9.0), ("ffhq", 7.0), ("birds", 7.0), ("flowers", 5.0)):
            question = f"{label}, above Lasso with cosines, m/n = 0.2, {group}"
            ask(question, run.gain(SENSING, "0.2", group, method, "lasso_dct"), least)
        for other in NOT_FLOWS:
            for group in ("celebahq", "ffhq"):
                question = f"{label}, above the {other.upper()}, m/n = 0.2, {group}"
                ask(question, run.gain(SENSING, "0.2", group, method, other), 8.0)
        for setting in ("0.081", "0.041"):
            question = f"{label}, above the deep decoder, m/n = {setting}, ffhq"
            ask(question, run.gain(SENSING, setting, "ffhq", method, "deep_decoder"), 2.0)
    for setting in ("0.1", "0.2"):
        value, n = run.mean("denoising", setting, "celebahq", "flow")
        bm3d = PUBLISHED["denoising"]["celebahq"]["bm3d"][setting]
        answer = (None if value is None else value - bm3d), n
        ask(f"denoising at sigma {setting} above BM3D as published, celebahq", answer, 0.0)
        question = f"denoising at sigma {setting} above total variation, celebahq"
        ask(question, run.gain("denoising", setting, "celebahq", "flow", "tv"), None)
    return found


def orders(run: Run) -> list[list[str]]:
    """For every set and m/n: the methods from best to worst, ours and as published.

    Ours are compared on the pictures that all of them solved.
    """
    lines = []
    for group, methods in PUBLISHED["compressed_sensing"].items():
        for setting in dict.fromkeys(s for values in methods.values() for s in values):
            solved = {name: run.rows.get((SENSING, setting, group, name)) for name in methods}
            theirs = {n: v[setting] for n, v in methods.items() if setting in v and solved[n]}
            if len(theirs) < 2:
                continue
            common = set.intersection(*(set(solved[name]) for name in theirs))
            ours = {n: run.mean(SENSING, setting, group, n, images=common)[0] for n in theirs}
            pairs = list(combinations(theirs, 2))
            same = sum((ours[a] - ours[b]) * (theirs[a] - theirs[b]) > 0 for a, b in pairs)
            ranked = (" > ".join(sorted(v, key=v.get, reverse=True)) for v in (ours, theirs))
            lines.append([group, setting, *ranked, f"{same} of {len(pairs)}"])
    return lines


def plot(run: Run, path: Path) -> None:
    """PSNR against m/n of all methods, a panel for each set; dashed as published."""
    labels = {name: method.label for name, method in METHODS.items()}
    figure, handles = new_figure((11, 7.4)), {}
    for k, (group, title) in enumerate(PANELS.items()):
        axes = figure.add_subplot(2, 2, k + 1)
        found = {label: run.curve(group, name) for name, label in labels.items()}
        columns = {
            label: tuple(zip(*points, strict=True)) for label, points in found.items() if points
        }
        draw_curves(
            axes,
            {label: (xs, ys) for label, (xs, ys, _) in columns.items()},
            log_x=True,
            errors={label: bars for label, (*_, bars) in columns.items()},
            dashed=published_against_m(group, labels),
            among=list(labels.values()),
        )
        axes.set(title=title, xlabel="m / n", ylabel="PSNR, dB")
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault("as published" if label.endswith("published") else label, handle)
    shown = [label for label in (*labels.values(), "as published") if label in handles]
    figure.legend(
        [handles[label] for label in shown], shown,
        loc="outside lower center", ncols=6, frameon=False,
    )  # fmt: skip
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
    parser = harness.Arguments(__doc__, threads=1, quick=False)
    parser.add_argument("run", type=Path, help="folder of the study")
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
