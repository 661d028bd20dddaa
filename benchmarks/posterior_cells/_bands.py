"""The figure: how far the distribution of ranks strays from uniform, within its simultaneous band."""

from __future__ import annotations

from pathlib import Path

import torch

from innverse.metrics.calibration import ecdf, ecdf_band

from ._uniform import THRESHOLD

TITLES = {
    "rank_test": "exact rank test of the transitions",
    "sbc": "calibration of the whole method",
    "mutants": "wrong on purpose",
}


def draw(results: dict, path: Path) -> None:
    """A row for each proof with ranks, a panel for each quantity, a line for each problem."""
    rows = {k: results[k] for k in TITLES if results.get(k, {}).get("counts")}
    if not rows:
        return
    from matplotlib.figure import Figure

    quantities = list(
        dict.fromkeys(q for r in rows.values() for c in r["counts"].values() for q in c)
    )
    figure = Figure(figsize=(2.1 * len(quantities), 2.2 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(quantities), sharex=True, squeeze=False)
    for (key, result), line in zip(rows.items(), panels, strict=True):
        for quantity, axes in zip(quantities, line, strict=True):
            _panel(axes, result, quantity, labels=quantity == quantities[0] and key == "mutants")
            axes.set_title(quantity.replace("_", " "), fontsize=8)
        line[0].set_ylabel(f"{TITLES[key]}\nshare - uniform", fontsize=7)
    figure.savefig(path, dpi=80)


def _panel(axes, result: dict, quantity: str, labels: bool) -> None:
    tests = result["tests"]
    for problem, counted in result["counts"].items():
        if quantity not in counted:
            continue
        values = torch.tensor(counted[quantity])
        ranks = torch.repeat_interleave(torch.arange(len(values)), values).unsqueeze(1)
        draws, n = len(values) - 1, len(ranks)
        at = torch.linspace(1, draws, min(draws, 200)).round() / (draws + 1)
        axes.plot(at, ecdf(ranks, draws)[:, 0] - at, linewidth=0.7, label=problem)
    # the last band stands for all: one row has one number of replicates
    for level, shade in ((1 - THRESHOLD / tests, 0.12), (1 - THRESHOLD, 0.15)):
        lower, upper = ecdf_band(n, draws, level)
        axes.fill_between(at, lower - at, upper - at, color="gray", alpha=shade, linewidth=0)
    axes.tick_params(labelsize=6)
    if labels:
        axes.legend(fontsize=4)
