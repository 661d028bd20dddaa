"""Every table and figure of the study, one function each; None where nothing was measured for it."""

from __future__ import annotations

from typing import Any

from ...report import Table, curves, panel
from . import published
from .protocol import EXPERIMENTS
from .results import Results


def table(results: Results, experiment: str, about: dict[str, str]) -> Table | None:
    """PSNR of every method, a row for each set and setting; the paper's flow beside it."""
    methods = results.methods(experiment)
    if not methods:
        return None
    theirs = {
        "compressed_sensing": published.COMPRESSED_SENSING,
        "denoising": published.DENOISING,
    }.get(experiment, {})
    headers = ["pictures", "setting", "n", *methods.values()]
    headers += ["flow, published"] if theirs else []
    found = Table(headers, title=f"{EXPERIMENTS[experiment].title}: PSNR in dB")
    for group in results.sets(experiment):
        for setting in sorted(results.settings(experiment), key=_by_number):
            means = [results.mean(experiment, setting, group, name) for name in methods]
            if all(mean is None for mean in means):
                continue
            counts = [len(results.values(experiment, setting, group, name)) for name in methods]
            row = [about[group], setting, _span([n for n in counts if n]), *means]
            if theirs:
                row.append(theirs.get(group, {}).get("flow", {}).get(setting))
            found.add(*row)
    return found


def _by_number(setting: str) -> float:
    """Numbers by size; names of settings stay in the order of the plan."""
    return float(setting) if setting.replace(".", "").isdigit() else 0.0


def _span(counts: list[int]) -> int | str:
    """How many pictures, where methods differ from the fewest to the most."""
    low, high = min(counts), max(counts)
    return low if low == high else f"{low} to {high}"


def psnr_against_m(results: Results, group: str) -> Any:
    """PSNR against m/n for one set, with standard errors; dashed what was published.

    None where only one m/n was measured.
    """
    experiment = "compressed_sensing"
    series, errors = {}, {}
    settings = sorted(results.settings(experiment), key=float)
    labels = results.methods(experiment)
    for name, label in labels.items():
        points = [
            (float(s), mean, results.error(experiment, s, group, name))
            for s in settings
            if (mean := results.mean(experiment, s, group, name)) is not None
        ]
        if points:
            xs, ys, bars = zip(*points, strict=True)
            series[label], errors[label] = (xs, ys), bars
    if len({m for xs, _ in series.values() for m in xs}) < 2:
        return None
    return curves(
        series, "m / n", "PSNR, dB", size=(9, 4.4), log_x=True, errors=errors,
        dashed=published_against_m(group, labels), among=list(labels.values()),
    )  # fmt: skip


def published_against_m(group: str, labels: dict[str, str]) -> dict[str, tuple]:
    """{"label, published": (m/n, dB)} for those methods of {name: label} with more than one value."""
    found = {}
    for name, values in published.COMPRESSED_SENSING.get(group, {}).items():
        if name in labels and len(values) > 1:
            pairs = sorted((float(m), v) for m, v in values.items())
            found[f"{labels[name]}, published"] = tuple(zip(*pairs, strict=True))
    return found


def pictures(results: Results, experiment: str, setting: str, group: str, most: int = 2) -> Any:
    """A row for each picture: the truth, then every method with its PSNR."""
    methods = {
        name: label
        for name, label in results.methods(experiment).items()
        if results.values(experiment, setting, group, name)
    }
    truth = results.pictures(experiment, setting, group, "truth")[:most]
    if not truth or not methods:
        return None
    shown = {name: results.pictures(experiment, setting, group, name) for name in methods}
    cells = []
    for i, x in enumerate(truth):
        cells.append(("truth", "", x))
        for name, label in methods.items():
            value = results.values(experiment, setting, group, name)[i]
            cells.append((label, f"{value:.2f} dB", shown[name][i]))
    return panel(cells, columns=1 + len(methods), cell=128, gap=10)


def start_and_gamma(results: Results, experiment: str) -> Table | None:
    """PSNR and final ||z|| / sqrt(n) for every start (rows) and gamma (columns)."""
    names = [tuple(name.split(", ")) for name in results.methods(experiment)]
    if not names:
        return None
    starts, gammas = (list(dict.fromkeys(n[k] for n in names)) for k in (0, 1))
    group, setting = results.sets(experiment)[0], results.settings(experiment)[0]
    title = f"{EXPERIMENTS[experiment].title} ({setting}): PSNR in dB, ||z|| / sqrt(n) behind it"
    found = Table(["start", *(f"gamma {gamma}" for gamma in gammas)], title=title)
    for start in starts:
        row = []
        for gamma in gammas:
            key = (experiment, setting, group, f"{start}, {gamma}")
            mean, length = results.mean(*key), results.mean(*key, what="z_norm")
            row.append(None if mean is None else f"{mean:.2f}  ({length:.2f})")
        found.add(start, *row)
    return found


def z0_norm(results: Results) -> Any:
    """PSNR against the length of z0."""
    experiment = "z0_norm"
    names = results.methods(experiment)
    if not names:
        return None
    group, setting = results.sets(experiment)[0], results.settings(experiment)[0]
    xs = [float(name) for name in names]
    ys = [results.mean(experiment, setting, group, name) for name in names]
    bars = [results.error(experiment, setting, group, name) for name in names]
    label = f"m/n = {setting}"
    return curves({label: (xs, ys)}, "||z0|| / sqrt(n)", "PSNR, dB", errors={label: bars})


def evaluations(results: Results) -> Any:
    """PSNR against gradient evaluations, for L-BFGS and Adam."""
    experiment = "evaluations"
    names = results.methods(experiment)
    if not names:
        return None
    group, setting = results.sets(experiment)[0], results.settings(experiment)[0]
    series: dict[str, tuple[list, list]] = {}
    for name, label in names.items():
        xs, ys = series.setdefault(label, ([], []))
        xs.append(results.mean(experiment, setting, group, name, what="evaluations"))
        ys.append(results.mean(experiment, setting, group, name))
    return curves(series, "gradient evaluations", "PSNR, dB", log_x=True)
