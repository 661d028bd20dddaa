"""The whole study on one page."""

from __future__ import annotations

from ...report import Report
from . import figures
from .pictures import Pictures
from .protocol import EXPERIMENTS, TABLE, tuned
from .results import Results


def make_page(
    results: Results, sets: dict[str, Pictures], missing: list[str], title: str, command: str
) -> Report:
    """``missing`` are the priors that this installation does not have."""
    about = {name: found.about for name, found in sets.items()}
    page = Report("Invertible priors for inverse problems", title)
    page.text(TABLE["intro"].strip())
    if tuned():
        page.text(TABLE["tuned"])
    else:
        page.note(TABLE["untuned"], warning=True)
    for name in missing:
        page.note(f"The model {name} is not part of this installation: left out.", warning=True)
    failures = results.failures()
    if failures:
        page.note(f"{len(failures)} searches failed: " + "; ".join(failures[:10]), warning=True)
    for experiment, entry in EXPERIMENTS.items():
        if results.settings(experiment):
            page.heading(entry.title)
            _section(page, results, experiment, about)
    return page.heading("Again").code(command)


def _section(page: Report, results: Results, experiment: str, about: dict[str, str]) -> None:
    if experiment.startswith("start_and_gamma"):
        page.table(figures.start_and_gamma(results, experiment))
    elif experiment == "z0_norm":
        page.figure(
            figures.z0_norm(results),
            "PSNR against the length of z0",
            "The search starts at a random latent of this length, with gamma = 0.",
        )
    elif experiment == "evaluations":
        page.figure(
            figures.evaluations(results),
            "PSNR against gradient evaluations",
            "Each point is a search with that budget. The paper used 600 to 750.",
        )
    else:
        _problem(page, results, experiment, about)


def _problem(page: Report, results: Results, experiment: str, about: dict[str, str]) -> None:
    page.table(figures.table(results, experiment, about))
    setting = results.settings(experiment)[0]
    for group in results.sets(experiment):
        if experiment == "compressed_sensing":
            figure = figures.psnr_against_m(results, group)
            if figure is not None:
                page.figure(figure, f"PSNR against m: {about[group]}")
        shown = figures.pictures(results, experiment, setting, group)
        if shown is not None:
            page.image(shown, f"{about[group]}, {setting}", labelled=True)
