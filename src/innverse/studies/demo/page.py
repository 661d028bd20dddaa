"""What the demonstration shows: a table, a panel, a page."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...report import Report, Table, curves, panel
from .problems import PROBLEMS, TUNING_PHOTOGRAPHS
from .run import Outcome, Score

_INTRO = """\
Each photograph was damaged on purpose, so the truth is known. It is reconstructed twice: by total \
variation, which knows only that pictures are mostly smooth with a few edges, and by an invertible \
neural network (INN), whose exact density p(x; sigma) of photographs plus noise gives the denoiser \
x + sigma^2 grad log p(x; sigma) that each step uses."""

_FAIR = """\
The weight of total variation was chosen for each problem on other photographs of scikit-image \
({}), and so were the settings of the network. No photograph shown here was used to train a \
network. Remains of the text that were visible in the photograph chelsea did prompt the search \
that led to adding noise before each denoising; its strength was chosen on the other photographs."""


def make_table(outcomes: Sequence[Outcome]) -> Table:
    """One row per problem."""
    table = Table(
        [
            "problem", "photograph", "degraded dB", "TV dB", "INN dB", "gain dB",
            "TV SSIM", "INN SSIM", "TV s", "INN s",
        ]
    )  # fmt: skip
    for o in outcomes:
        t, i = o.tv_score, o.inn_score
        table.add(
            o.scene.problem.name,
            o.scene.problem.photograph,
            o.degraded_score.psnr,
            t.psnr,
            i.psnr,
            f"{o.gain:+.2f}",
            f"{t.ssim:.3f}",
            f"{i.ssim:.3f}",
            round(t.seconds, 1),
            round(i.seconds, 1),
        )
    return table


def verdict(outcomes: Sequence[Outcome]) -> str:
    """In one or two sentences: where the network beats total variation and where it does not."""
    lost = [o for o in outcomes if not o.flow_wins]
    mean = sum(o.gain for o in outcomes) / len(outcomes)
    if not lost:
        if len(outcomes) == 1:
            return f"The network beats total variation on the one problem, by {mean:.2f} dB."
        return (
            f"The network beats total variation on all {len(outcomes)} problems, by "
            f"{mean:.2f} dB on average."
        )
    names = ", ".join(f"{o.scene.problem.name} ({o.gain:+.2f} dB)" for o in lost)
    won = len(outcomes) - len(lost)
    return (
        f"The network does NOT beat total variation on: {names}. It does on {won} of "
        f"{len(outcomes)}; the mean difference is {mean:+.2f} dB."
    )


def make_panel(outcomes: Sequence[Outcome]):
    """All problems in one picture, a row each: photograph, degraded, TV, INN."""
    cells = []
    for o in outcomes:
        cells += _row(o)
    return panel(cells, columns=4, cell=256)


def make_page(outcomes: Sequence[Outcome], prior_names: Sequence[str], command: str) -> Report:
    """The report as one HTML page."""
    page = Report(
        "Photographs reconstructed with an invertible network",
        f"innverse demo · {' and '.join(prior_names)}",
    )
    page.text(_INTRO)
    if len(outcomes) < len(PROBLEMS):
        page.note(f"Interrupted: {len(outcomes)} of {len(PROBLEMS)} problems.", warning=True)
    page.note(verdict(outcomes), warning=not all(o.flow_wins for o in outcomes))
    page.table(make_table(outcomes))
    page.text(_FAIR.format(", ".join(TUNING_PHOTOGRAPHS)))
    for o in outcomes:
        page.heading(o.scene.problem.name.capitalize()).text(o.scene.problem.story)
        page.images(_row(o), pixels=o.scene.problem.side < 200)
        if not o.flow_wins:
            page.note(
                f"Here the network does not beat total variation ({o.gain:+.2f} dB).", warning=True
            )
        page.images(_errors(o), pixels=o.scene.problem.side < 200, columns=4)
        page.text(_how(o))
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
    maps = []
    for title, x in (("error of total variation", o.tv), ("error of the network", o.inn.x)):
        error = (x - o.scene.truth)[0].abs().mean(0, keepdim=True)
        maps.append((title, "white = none, black = 20 % of the range", (1 - 5 * error).clamp(0, 1)))
    return maps


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
