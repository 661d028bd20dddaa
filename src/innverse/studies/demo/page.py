"""What the demonstration shows: a table, a panel, a page."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...report import Heat, Report, Table, curves, panel
from ...restoration.error_bars import coverage_table, thinned, what_is_drawn
from .error_bar import ErrorBar
from .problems import PROBLEMS, TABLE, TUNING_PHOTOGRAPHS
from .run import Outcome, Score

__all__ = ["make_page", "make_panel", "make_table", "verdict"]


def make_table(outcomes: Sequence[Outcome]) -> Table:
    """One row per problem."""
    table = Table(
        "problem, photograph, degraded dB, TV dB, INN dB, gain dB, TV SSIM, INN SSIM, TV s, INN s"
        .split(", ")
    )  # fmt: skip
    for o in outcomes:
        t, i = o.tv_score, o.inn_score
        decibels = (o.degraded_score.psnr, t.psnr, i.psnr, f"{o.gain:+.2f}")
        rest = (f"{t.ssim:.3f}", f"{i.ssim:.3f}", round(t.seconds, 1), round(i.seconds, 1))
        table.add(o.scene.problem.name, o.scene.problem.photograph, *decibels, *rest)
    return table


def verdict(outcomes: Sequence[Outcome]) -> str:
    """In one or two sentences: where the network beats total variation and where it does not."""
    lost, n = [o for o in outcomes if not o.flow_wins], len(outcomes)
    mean = sum(o.gain for o in outcomes) / n
    if lost:
        names = ", ".join(f"{o.scene.problem.name} ({o.gain:+.2f} dB)" for o in lost)
        return (
            f"The network does NOT beat total variation on: {names}. It does on {n - len(lost)} of "
            f"{n}; the mean difference is {mean:+.2f} dB."
        )
    if n == 1:
        return f"The network beats total variation on the one problem, by {mean:.2f} dB."
    return f"The network beats total variation on all {n} problems, by {mean:.2f} dB on average."


def make_panel(outcomes: Sequence[Outcome]):
    """All problems in one picture, a row each: photograph, degraded, TV, INN."""
    return panel([cell for o in outcomes for cell in _row(o)], columns=4, cell=256)


def make_page(
    outcomes: Sequence[Outcome],
    prior_names: Sequence[str],
    command: str,
    error_bar: ErrorBar | None = None,
) -> Report:
    """The report as one HTML page."""
    page = Report(
        "Photographs reconstructed with an invertible network",
        f"innverse demo · {' and '.join(prior_names)}",
    )
    page.text(TABLE["intro"].strip())
    if len(outcomes) < len(PROBLEMS):
        page.note(f"Interrupted: {len(outcomes)} of {len(PROBLEMS)} problems.", warning=True)
    page.note(verdict(outcomes), warning=not all(o.flow_wins for o in outcomes))
    page.table(make_table(outcomes))
    page.text(TABLE["fair"].strip().format(", ".join(TUNING_PHOTOGRAPHS)))
    for o in outcomes:
        page.heading(o.scene.problem.name.capitalize()).text(o.scene.problem.story)
        page.images(_row(o), pixels=o.scene.problem.side < 200)
        if not o.flow_wins:
            page.note(
                f"Here the network does not beat total variation ({o.gain:+.2f} dB).", warning=True
            )
        page.images(_errors(o), pixels=o.scene.problem.side < 200, columns=4)
        page.text(_how(o))
    if error_bar is not None:
        _add_error_bar(page, error_bar)
    page.heading("How the solver closes in")
    page.figure(
        curves(
            {o.scene.problem.name: _changes(o) for o in outcomes if o.inn.method == "pnp"},
            "step",
            "change of the image",
            log=True,
        ),
        "Relative change from step to step",
        "The noise level at which the network denoises falls geometrically, and so does the change.",
    )
    page.heading("Again").code(command)
    return page


def _add_error_bar(page: Report, e: ErrorBar) -> None:
    """The picture with its error bar, what that promised, and some draws."""
    r, found, small = e.result, e.as_json(), e.truth.shape[-1] < 200
    page.heading("How sure is it?").text(TABLE["error_bar"]["text"].strip())
    page.note(e.verdict(), warning=not e.converged)
    bar = Heat(e.draws.std(0))
    error = Heat((r.x - e.truth)[0].abs(), bar.high)
    page.images(
        [
            ("damaged", "half of the pixels, with noise", e.y[0].clamp(0, 1)),
            ("mean of the draws", f"{found['psnr']:.2f} dB", r.x[0].clamp(0, 1)),
            ("error bar", f"standard deviation of {r.quantity}", bar),
        ],
        pixels=small,
    )
    truth = [("the photograph", "", e.truth[0]), ("error of the mean", "", error)]
    page.images(truth, pixels=small, columns=3)
    page.table(coverage_table(found["coverage"]))
    drawn = thinned(e.draws.clamp(0, 1), 4)
    page.images([(f"draw {k + 1}", "", x) for k, x in enumerate(drawn)], pixels=small)
    page.text(
        f"{found['draws']} draws of {r.quantity}, worth {found['ess_bulk']['median']:.0f} independent "
        f"ones at the median pixel, in {found['evaluations']} evaluations and {r.seconds:.0f} s; R-hat "
        f"is at most {found['r_hat']['99 %']:.2f} for 99 % of the pixels and "
        f"{found['r_hat']['largest']:.2f} for all. {what_is_drawn(r.quantity)}"
    )


def _row(o: Outcome) -> list[tuple]:
    clean = o.scene.truth[0]
    return [
        (o.scene.problem.photograph, "the photograph", clean),
        (o.scene.problem.name, _words(o.degraded_score), o.scene.degraded[0].clamp(0, 1)),
        ("total variation", _words(o.tv_score), o.tv[0].clamp(0, 1)),
        (f"invertible network ({o.inn.method})", _words(o.inn_score), o.inn.x[0].clamp(0, 1)),
    ]


def _words(score: Score) -> str:
    return f"{score.psnr:.2f} dB, SSIM {score.ssim:.3f}"


def _errors(o: Outcome) -> list[tuple]:
    """The errors, five times enlarged, dark on white."""
    below = "white = none, black = 20 % of the range"
    errors = [(x - o.scene.truth)[0].abs().mean(0, keepdim=True) for x in (o.tv, o.inn.x)]
    shown = [(1 - 5 * error).clamp(0, 1) for error in errors]
    return [
        ("error of total variation", below, shown[0]),
        ("error of the network", below, shown[1]),
    ]


def _how(o: Outcome) -> str:
    c, h, w = o.scene.truth.shape[1:]
    colour = "colour" if c == 3 else "gray"
    rounds = int(o.inn.evaluations.max())
    return (
        f"{h} x {w} pixels, {colour}. Total variation: weight {o.scene.problem.tv:g}, "
        f"{o.tv_score.seconds:.1f} s. Network: method {o.inn.method}, {rounds} evaluations, "
        f"{o.inn_score.seconds:.1f} s; {o.inn.status[0]}."
    )


def _changes(o: Outcome) -> tuple[list[int], list[float]]:
    changes = [float(torch.tensor(step["change"]).max()) for step in o.inn.trace]
    return list(range(1, len(changes) + 1)), changes
