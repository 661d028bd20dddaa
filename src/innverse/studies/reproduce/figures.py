"""Every table and figure of the study, one function each."""

from __future__ import annotations

from typing import Any

from ...report import Table, curves, panel
from .protocol import EXPERIMENTS, PUBLISHED
from .results import Results


def table(results: Results, experiment: str, about: dict[str, str]) -> Table:
    """PSNR of every method, a row for each set and setting; the paper's flow beside it."""
    methods, theirs = results.methods(experiment), PUBLISHED.get(experiment, {})
    headers = ["pictures", "setting", "n", *methods.values(), *["flow, published"] * bool(theirs)]
    found = Table(headers, title=f"{EXPERIMENTS[experiment].title}: PSNR in dB")
    for group in results.sets(experiment):
        for setting in sorted(results.settings(experiment), key=_by_number):
            values = [results.values(experiment, setting, group, name) for name in methods]
            counts = sorted({len(v) for v in values if v})
            if not counts:
                continue
            n = counts[0] if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
            row: list[Any] = [about[group], setting, n]
            row += [results.mean(experiment, setting, group, name) for name in methods]
            row += [theirs.get(group, {}).get("flow", {}).get(setting)] * bool(theirs)
            found.add(*row)
    return found


def _by_number(setting: str) -> float:
    """Numbers by size; names of settings stay in the order of the plan."""
    return float(setting) if setting.replace(".", "").isdigit() else 0.0


def psnr_against_m(results: Results, group: str) -> Any:
    """PSNR against m/n for one set, with standard errors; dashed what was published.

    None where only one m/n was measured.
    """
    experiment = "compressed_sensing"
    series, errors = {}, {}
    labels = results.methods(experiment)
    for name, label in labels.items():
        points = [
            (float(s), mean, results.error(experiment, s, group, name))
            for s in sorted(results.settings(experiment), key=float)
            if (mean := results.mean(experiment, s, group, name)) is not None
        ]
        if points:
            xs, ys, errors[label] = zip(*points, strict=True)
            series[label] = xs, ys
    if len({m for xs, _ in series.values() for m in xs}) < 2:
        return None
    return curves(
        series, "m / n", "PSNR, dB", size=(9, 4.4), log_x=True, errors=errors,
        dashed=published_against_m(group, labels), among=list(labels.values()),
    )  # fmt: skip


def published_against_m(group: str, labels: dict[str, str]) -> dict[str, tuple]:
    """{"label, published": (m/n, dB)} for those methods of {name: label} with more than one value."""
    found = {}
    for name, values in PUBLISHED["compressed_sensing"].get(group, {}).items():
        if name in labels and len(values) > 1:
            pairs = sorted((float(m), v) for m, v in values.items())
            found[f"{labels[name]}, published"] = tuple(zip(*pairs, strict=True))
    return found


def pictures(results: Results, experiment: str, setting: str, group: str, most: int = 2) -> Any:
    """A row for each picture: the truth, then every method with its PSNR; None without pictures."""
    truth = results.pictures(experiment, setting, group, "truth")[:most]
    columns = [
        (label, results.values(*key), results.pictures(*key))
        for name, label in results.methods(experiment).items()
        if (key := (experiment, setting, group, name)) in results.cells
    ]
    if not truth or not columns:
        return None
    cells = []
    for i, x in enumerate(truth):
        cells.append(("truth", "", x))
        cells += [(label, f"{psnr[i]:.2f} dB", shown[i]) for label, psnr, shown in columns]
    return panel(cells, columns=1 + len(columns), cell=128, gap=10)


def _first(results: Results, experiment: str) -> tuple[str, str, str]:
    """The one setting and set of an ablation."""
    return experiment, results.settings(experiment)[0], results.sets(experiment)[0]


def start_and_gamma(results: Results, experiment: str) -> Table:
    """PSNR and final ||z|| / sqrt(n) for every start (rows) and gamma (columns)."""
    place = _first(results, experiment)
    names = [name.split(", ") for name in results.methods(experiment)]
    starts, gammas = (list(dict.fromkeys(column)) for column in zip(*names))
    title = f"{EXPERIMENTS[experiment].title} ({place[1]}): PSNR in dB, ||z|| / sqrt(n) behind it"
    found = Table(["start", *(f"gamma {gamma}" for gamma in gammas)], title=title)
    for start in starts:
        row = []
        for gamma in gammas:
            key = (*place, f"{start}, {gamma}")
            mean, length = results.mean(*key), results.mean(*key, what="z_norm")
            row.append(None if mean is None else f"{mean:.2f}  ({length:.2f})")
        found.add(start, *row)
    return found


def z0_norm(results: Results) -> Any:
    """PSNR against the length of z0."""
    place, names = _first(results, "z0_norm"), results.methods("z0_norm")
    xs = [float(name) for name in names]
    ys: list[Any] = [results.mean(*place, name) for name in names]
    bars = {(label := f"m/n = {place[1]}"): [results.error(*place, name) for name in names]}
    return curves({label: (xs, ys)}, "||z0|| / sqrt(n)", "PSNR, dB", errors=bars)


def evaluations(results: Results) -> Any:
    """PSNR against gradient evaluations, for L-BFGS and Adam."""
    place = _first(results, "evaluations")
    series: dict[str, tuple[list, list]] = {}
    for name, label in results.methods("evaluations").items():
        xs, ys = series.setdefault(label, ([], []))
        xs.append(results.mean(*place, name, what="evaluations"))
        ys.append(results.mean(*place, name))
    return curves(series, "gradient evaluations", "PSNR, dB", log_x=True)
