"""The comparison as one page: a claim a section, its numbers, its pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from ...metrics.features import DESCRIPTION
from ...report import Report, Table, curves, grid
from .claims import Claim, claims, value
from .run import Findings

_SHOWN, _COLUMNS = 36, 12
_PICTURE = 560  # pixels that a grid of samples should be wide

_INTRO = """\
Three generative models of one kind of image: an invertible network (INN), a variational autoencoder \
(VAE) and a generative adversarial network (GAN). Each sentence of the theory about the strengths and \
the limitations of the first stands below with its numbers, measured on this machine, on the same \
images and with the same seeds for all models."""

_LIKELIHOOD = """\
All numbers are -log2 p(x) / n + 8 of the same real numbers x, the convention of Theis et al. (2016): \
8-bit images spread over their levels by uniform noise."""

_NOISED = """\
This INN is noise-conditional: p(x; sigma) is the density of images plus N(0, sigma^2) noise, taken \
at its lowest level, sigma = {sigma:g}. In the first row it is evaluated on the dequantised images, \
whose noise is weaker than it expects; that is a valid code length, and costs it bits. The second row \
is of images with the noise that the INN was made for; the bound of the VAE is computed on exactly \
these noisy images too."""

_BETA = """\
The VAE was trained with its Kullback-Leibler divergence weighted by beta = {beta:g}, for the sake of \
its samples (Higgins et al. 2017); its bound is computed with beta = 1, and would be tighter had it \
been trained so."""

_FEATURES = """\
The distance is between normal distributions fitted to features of the draws and of the test images. \
The features come from {}. No trained network is involved: values are comparable within this \
page only, and not with a published FID. Pictures are clipped to [0, 1] first."""


def make_page(found: Findings, title: str, command: str, budget: str) -> Report:
    """The whole page; ``budget`` says in words what makes the comparison fair, or not."""
    page = Report(title, "innverse compare · " + " · ".join(_name(c) for c in found.contestants))
    page.text(_INTRO).text(budget)
    page.text(
        f"Test images: {found.data.test_name}, {len(found.data.test)}. Other images: "
        f"{found.data.other_name}, {len(found.data.other)}. None was used in training."
    )
    page.contents()
    drawings = {
        "likelihood": _about_likelihood,
        "range": _ranges,
        "memory": _depth,
        "samples": _samples,
    }
    for claim in claims(found):
        kind = "" if claim.kind == "samples" else f" ({claim.kind})"
        verdict = claim.verdict(found)
        page.heading(claim.title + kind, summary=verdict.partition(". ")[0].rstrip(".") + ".")
        page.note(verdict).table(make_table(found, claim))
        if claim.key in drawings:
            drawings[claim.key](page, found)
    return page.heading("How to repeat this").code(command)


def make_table(found: Findings, claim: Claim) -> Table:
    """The rows of one claim."""
    table = Table(["measure", *found.labels])
    for row in claim.rows:
        numbers = [value(found, label, row) for label in found.labels]
        if any(number is not None for number in numbers):
            table.add(row.measure.replace("  ", "\u2003"), *map(row.text, numbers))
    return table


def _name(contestant) -> str:
    architecture = contestant.model.name or contestant.label.lower()
    return f"{contestant.label}: {contestant.name} ({architecture})"


def _about_likelihood(page: Report, found: Findings) -> None:
    page.text(_LIKELIHOOD)
    sigma = found.contestants[0].sigma
    if sigma is not None:
        page.text(_NOISED.format(sigma=sigma))
    for contestant in found.contestants:
        if (beta := getattr(contestant.model, "beta", 1.0)) != 1:
            page.text(_BETA.format(beta=beta))


def _ranges(page: Report, found: Findings) -> None:
    for kind, images, name in (
        ("test", found.data.test, found.data.test_name),
        ("other", found.data.other, found.data.other_name),
    ):
        found_by = found.closest[kind]
        n = min(_COLUMNS, len(next(iter(found_by.values()))))
        rows = [images[:n].float() / 255, *(x[:n].clamp(0, 1) for x in found_by.values())]
        page.image(
            _grid(torch.cat(rows), n),
            f"The closest images in the range: {name}",
            "from top to bottom: the images, " + ", ".join(found_by),
        )


def _depth(page: Report, found: Findings) -> None:
    if found.depth is None:
        return
    series = {mode: (list(by), [n * 1e-6 for n in by.values()]) for mode, by in found.depth.items()}
    page.figure(
        curves(series, "steps of each level", "MB"),
        "Memory of a gradient, beyond parameters and their gradients",
        "the INN of this page, deeper and deeper, with random weights",
    )


def _samples(page: Report, found: Findings) -> None:
    n = min(_SHOWN, found.settings.draws)
    t = f"temperature {found.settings.temperature:g}, not chosen by hand"
    pictures = [(label, t, _grid(x[:n], 6)) for label, x in found.samples.items()]
    real = found.data.test[:n].float() / 255
    pictures.append(("test images", found.data.test_name, _grid(real, 6)))
    page.images(pictures, pixels=True)
    page.text(_FEATURES.format(DESCRIPTION))


def _grid(x: Tensor, columns: int):
    """A grid, small images enlarged to be seen."""
    scale = max(1, _PICTURE // (columns * x.shape[-1]))
    return grid(x, columns, pad=2 if scale == 1 else 1, scale=scale)
