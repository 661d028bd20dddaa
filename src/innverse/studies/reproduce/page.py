"""The whole study on one page."""

from __future__ import annotations

from ...report import Report
from . import figures
from .pictures import Pictures
from .protocol import EXPERIMENTS, tuned
from .results import Results

_INTRO = """\
Asim, Daniels, Leong, Ahmed and Hand, "Invertible generative models for inverse problems: mitigating \
representation error and dataset bias" (ICML 2020, arXiv 1905.11672), run again with innverse. An \
invertible network represents every image exactly, so its reconstructions improve with every \
measurement, also on pictures unlike those it was trained on; a GAN or a VAE stops at what its few \
latents can represent.

The paper's flow has 67 million parameters and was trained on GPUs; the one used here is far smaller, \
so published numbers stand beside ours. Noise has length 0.1 whatever m, except in denoising. \
Error bars are standard errors over the pictures."""

_FAIR = """\
Weights, widths and noise levels were chosen on training faces that no model was trained on \
(benchmarks/tune_asim2020.py), none on the pictures shown here. A method that was not tuned in a \
setting takes the first entry of its grid there; tuned.json lists what was tried."""

_UNTUNED = """\
No method was tuned in this installation: each takes the first entry of its grid. \
benchmarks/tune_asim2020.py chooses among them on held-out training faces."""


def make_page(
    results: Results, sets: dict[str, Pictures], missing: list[str], title: str, command: str
) -> Report:
    """``missing`` are the priors that this installation does not have."""
    about = {name: found.about for name, found in sets.items()}
    page = Report("Invertible priors for inverse problems", title)
    page.text(_INTRO)
    if tuned():
        page.text(_FAIR)
    else:
        page.note(_UNTUNED, warning=True)
    for name in missing:
        page.note(f"The model {name} is not part of this installation: left out.", warning=True)
    failures = results.failures()
    if failures:
        page.note(f"{len(failures)} searches failed: " + "; ".join(failures[:10]), warning=True)
    for experiment in EXPERIMENTS:
        if not results.settings(experiment):
            continue
        _SECTIONS.get(experiment, _problem)(page, results, experiment, about)
    page.heading("Again").code(command)
    return page


def _problem(page: Report, results: Results, experiment: str, about: dict[str, str]) -> None:
    page.heading(EXPERIMENTS[experiment].title)
    page.table(figures.table(results, experiment, about))
    for group in results.sets(experiment):
        if experiment == "compressed_sensing":
            figure = figures.psnr_against_m(results, group)
            if figure is not None:
                page.figure(figure, f"PSNR against m: {about[group]}")
        setting = results.settings(experiment)[0]
        shown = figures.pictures(results, experiment, setting, group)
        if shown is not None:
            page.image(shown, f"{about[group]}, {setting}", labelled=True)


def _ablation(page: Report, results: Results, experiment: str, about: dict[str, str]) -> None:
    page.heading(EXPERIMENTS[experiment].title)
    page.table(figures.start_and_gamma(results, experiment))


def _z0_norm(page: Report, results: Results, experiment: str, about: dict[str, str]) -> None:
    page.heading(EXPERIMENTS[experiment].title)
    page.figure(
        figures.z0_norm(results),
        "PSNR against the length of z0",
        "The search starts at a random latent of this length, with gamma = 0.",
    )


def _evaluations(page: Report, results: Results, experiment: str, about: dict[str, str]) -> None:
    page.heading(EXPERIMENTS[experiment].title)
    page.figure(
        figures.evaluations(results),
        "PSNR against gradient evaluations",
        "Each point is a search with that budget. The paper used 600 to 750.",
    )


_SECTIONS = {
    "start_and_gamma": _ablation,
    "start_and_gamma_denoising": _ablation,
    "z0_norm": _z0_norm,
    "evaluations": _evaluations,
}
