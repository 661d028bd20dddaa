"""The comparison as one page: a claim a section, its numbers, its pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from ...metrics.features import DESCRIPTION
from ...report import Report, Table, curves, grid
from .claims import TABLE, Claim, claims, value
from .run import Findings

_SHOWN, _COLUMNS = 36, 12
_PICTURE = 560  # pixels that a grid of samples should be wide
_WORDS = {key: text.strip() for key, text in TABLE["page"].items()}


def make_page(found: Findings, title: str, command: str, budget: str) -> Report:
    """The whole page; ``budget`` says in words what makes the comparison fair, or not."""
    page = Report(title, "innverse compare · " + " · ".join(_name(c) for c in found.contestants))
    page.text(_WORDS["intro"]).text(budget)
    page.text(
        f"Test images: {found.data.test_name}, {len(found.data.test)}. Other images: "
        f"{found.data.other_name}, {len(found.data.other)}. None was used in training."
    )
    page.contents()
    for claim in claims(found):
        kind = "" if claim.kind == "samples" else f" ({claim.kind})"
        verdict = claim.verdict(found)
        page.heading(claim.title + kind, summary=verdict.partition(". ")[0].rstrip(".") + ".")
        page.note(verdict).table(make_table(found, claim))
        if claim.key in _DRAWINGS:
            _DRAWINGS[claim.key](page, found)
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
    page.text(_WORDS["likelihood"])
    sigma = found.contestants[0].sigma
    if sigma is not None:
        page.text(_WORDS["noised"].format(sigma=sigma))
    for contestant in found.contestants:
        if (beta := getattr(contestant.model, "beta", 1.0)) != 1:
            page.text(_WORDS["beta"].format(beta=beta))


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
    page.text(_WORDS["features"].format(description=DESCRIPTION))


def _grid(x: Tensor, columns: int):
    """A grid, small images enlarged to be seen."""
    scale = max(1, _PICTURE // (columns * x.shape[-1]))
    return grid(x, columns, pad=2 if scale == 1 else 1, scale=scale)


_DRAWINGS = {
    "likelihood": _about_likelihood,
    "range": _ranges,
    "memory": _depth,
    "samples": _samples,
}
