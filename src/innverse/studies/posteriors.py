"""The report of an amortised inference: what was learned, whether it is right, before and after
repair."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor

from ..amortized.assess import Assessment
from ..amortized.posterior import Posterior
from ..fitting import History
from ..metrics.calibration import ENOUGH
from ..report import Report, Table, curves
from ..report.posteriors import contraction_plot, coverage_curves, pair_plot, rank_histograms

_SHOWN = 4  # observations with a figure of their own


def write_page(
    path: str | Path,
    posterior: Posterior,
    found: Assessment | None,
    *,
    title: str,
    seen: Tensor | None = None,
    draws: Tensor | None = None,
) -> Path:
    """A single HTML file.

    Args:
        found: what `assess` returned, None if nothing was checked.
        seen, draws: observations (B, *x_shape) and their draws (L, B, D), if some were inferred.

    Raises:
        InnverseError: matplotlib is not installed, or the place cannot be written to.
    """
    page = Report(title, f"{posterior!r}")
    with warnings.catch_warnings():  # letters of a name that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", "Glyph .* missing")
        _training(page, posterior)
        if found is not None:
            _calibration(page, found)
            _learned(page, found)
            _likelihood(page, found)
        if draws is not None and seen is not None:
            _observations(page, posterior, seen, draws)
    return page.save(path)


def _training(page: Report, posterior: Posterior) -> None:
    history = posterior.history or History()  # a posterior made by hand has none
    table = Table(["", "value"])
    table.add("simulations", posterior.n_simulations)
    table.add("left out as NaN or infinite", posterior.n_excluded)
    table.add("weights of the network", posterior.n_parameters)
    table.add("epochs", history.epochs)
    table.add("seconds", round(history.seconds))
    table.add("held-out loss, nats", f"{history.best:.4f}")
    table.add("ended", history.ended)
    page.heading("Training").table(table)
    epochs = list(range(1, history.epochs + 1))
    page.figure(
        curves({"held-out": (epochs, history.held_out)}, "epoch", "-log q(theta | x), nats"),
        "Held-out loss",
        "The mean negative log-density of the true parameters of pairs that were not trained on.",
    )


def _calibration(page: Report, found: Assessment) -> None:
    before, after = found.before, found.after
    both = {"before": before, "after repair": after}
    page.heading("Calibration")
    page.text(
        f"Tested on {found.pairs} fresh pairs, and repaired by conformal recalibration of the "
        f"intervals, learned from {found.repair.n} others. A credible interval of 90 % should hold "
        "the truth in 90 % of the pairs; by chance of the pairs the share misses that by one "
        "standard error in a third of such tests, even if the posterior is exact."
    )
    headers = (
        "credibility, covered, after repair, ± by chance of the test, ± by chance of the repair"
    )
    table = Table([*headers.split(", "), "widest miss", "its miss after"], digits=3)
    rows = zip(
        before.coverage.levels,
        before.coverage.covered,
        after.coverage.covered,
        before.coverage.standard_error,
        found.repair.standard_error(before.coverage.levels),
    )
    for level, covered, repaired, *chances in rows:
        misses = [float((t - level).abs().max()) for t in (covered, repaired)]
        means = [float(t.mean()) for t in (covered, repaired)]
        table.add(f"{100 * float(level):.0f} %", *means, *map(float, chances), *misses)
    page.table(table)
    if found.repair.n < ENOUGH:
        page.note(
            f"The repair was learned from {found.repair.n} pairs only: it can make a posterior worse "
            f"that was nearly right. Give it at least {ENOUGH} ([check] pairs = {2 * ENOUGH}).",
            warning=True,
        )
    page.text(
        f"Calibration error (median over all confidences): {100 * before.error:.2f} % before, "
        f"{100 * after.error:.2f} % after. TARP p-value: {before.tarp.p_value:.3g} before, "
        f"{after.tarp.p_value:.3g} after."
    )
    covered = {k: (c.curve.levels, c.curve.covered.mean(1)) for k, c in both.items()}
    page.figure(
        coverage_curves(covered, "share of truths inside", found.pairs),
        "Coverage",
        "Central intervals, averaged over the parameters. Below the diagonal: too narrow.",
    )
    expected = {k: (c.tarp.levels, c.tarp.ecp) for k, c in both.items()}
    page.figure(
        coverage_curves(expected, "expected coverage", found.pairs),
        "TARP",
        "Balls around random points (Lemos et al. 2023): it sees all parameters together.",
    )
    for label, checks in both.items():
        p = ", ".join(f"{n} {float(v):.3g}" for n, v in zip(found.names, checks.sbc.p_values))
        page.figure(
            rank_histograms(checks.sbc.ranks, checks.sbc.draws, found.names),
            f"Simulation-based calibration, {label}",
            f"Ranks of the truth; the band holds 95 % of the bars of an exact posterior. p: {p}.",
        )


def _learned(page: Report, found: Assessment) -> None:
    page.heading("What the data taught")
    contraction, z = found.learned.contraction, found.learned.z_score
    table = Table(["parameter", "contraction", "z-score, mean", "z-score, deviation"])
    for name, *values in zip(found.names, contraction.mean(0), z.mean(0), z.std(0)):
        table.add(name, *map(float, values))
    page.table(table)
    page.figure(
        contraction_plot(contraction, z, found.names),
        "Contraction and z-score",
        "Contraction 1: the measurement tells the parameter; 0: it says nothing. |z| above 2 in "
        "more than a few points: too sure.",
    )
    if found.resimulation is not None:
        posterior, prior = (float(t.median()) for t in found.resimulation)
        page.text(
            "Re-simulation: simulations at draws of the posterior lie at a median squared distance "
            f"of {posterior:.4g} from the measurement, those at draws of the prior at {prior:.4g}."
        )
    for k in range(found.draws.shape[1]):
        page.figure(
            pair_plot({"posterior": found.draws[:, k]}, found.names, found.theta[k]),
            f"Test pair {k + 1}",
            "Draws of the posterior; lines mark the true parameters.",
        )


def _likelihood(page: Report, found: Assessment) -> None:
    if found.corrections is None:
        return
    page.heading("Against the exact likelihood")
    page.text(
        "Draws weighted by p(theta, x) / q(theta | x) are exact. Efficiency is the effective sample "
        "size per draw, 1 for an exact posterior; weights can be trusted where Pareto k is below 0.7."
    )
    table = Table(["observation", "efficiency", "Pareto k", "log evidence", "to be trusted"])
    for k, made in enumerate(found.corrections, 1):
        i = made.importance
        table.add(k, made.efficiency, i.pareto_k, i.log_evidence, i.trustworthy)
    page.table(table)


def _observations(page: Report, posterior: Posterior, seen: Tensor, draws: Tensor) -> None:
    page.heading("Observations")
    ranks = posterior.rank(seen)
    headers = ["observation", "parameter", "mean", "deviation", "5 %", "95 %"]
    table = Table(headers, digits=4)
    for k in range(min(draws.shape[1], 20)):
        d = draws[:, k].double()
        low, high = d.quantile(torch.tensor([0.05, 0.95], dtype=d.dtype), 0)
        for j, name in enumerate(posterior.names):
            values = (d[:, j].mean(), d[:, j].std(), low[j], high[j])
            table.add(str(k + 1), name, *map(float, values))
    page.table(table)
    far = [str(k + 1) for k, rank in enumerate(ranks) if float(rank) == 0]
    if far:
        page.note(
            f"Unlike any simulation (log-density rank 0): observation {', '.join(far[:20])}. Their "
            "posteriors are guesses.",
            warning=True,
        )
    for k in range(min(draws.shape[1], _SHOWN)):
        page.figure(
            pair_plot({"posterior": draws[:, k]}, posterior.names),
            f"Observation {k + 1}",
            f"Log-density rank among the simulations: {float(ranks[k]):.3f}.",
        )
