"""A reconstruction: its pictures with their error bar, and whether to believe them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..report.table import Table
from .card import Block, Card, Note, Pictures, Rows, Soft, number, shape_of
from .picture import SIDE, map_of, picture_of
from .words import words

if TYPE_CHECKING:
    from ..solvers.reconstruction import Reconstruction

SHOWN = 3  # items of a batch; of the others there is a count
_WIDTH = 160  # CSS pixels of a picture


def card(result: Reconstruction) -> Card:
    batch, done = len(result.x), int(result.converged.sum())
    what = f"{result.method}: {batch} of {tuple(result.x.shape[1:])}, {result.seconds:.1f} s"
    verdict = "converged" if batch == 1 and done else f"{done} of {batch} converged"
    verdict = "not converged" if batch == 1 and not done else verdict
    blocks: list[Block] = [*_pictures(result), Rows(diagnostics(result))]
    for k, notes in enumerate(result.notes[:SHOWN]):
        blocks += [Note(f"item {k}: {note}" if batch > 1 else note) for note in notes[:SHOWN]]
    if batch > SHOWN:
        blocks.append(Soft(f"… and {batch - SHOWN} more items"))
    if result.reason and result.reason != "named by the caller":
        blocks.append(Soft(f"{result.method}, because {result.reason}"))
    return Card("Reconstruction", what, done == batch, verdict, blocks)


def diagnostics(result: Reconstruction) -> Table:
    """What speaks for the first items and against them, a line each."""
    told = result.diagnostics
    columns = {
        "residual": result.residual,
        "residual / noise": result.noise_ratio,
        "log p(x)": result.log_prob,
        "largest R-hat": _over_pixels(told.get("r_hat"), torch.amax),
        "smallest ESS": _over_pixels(told.get("ess_bulk"), torch.amin),
        "acceptance": told.get("acceptance"),
        "divergences": told.get("divergences"),
        "mean std": _over_pixels(result.std, torch.mean),
        "evaluations": result.evaluations,
    }
    columns = {k: v for k, v in columns.items() if isinstance(v, Tensor) and v.numel()}
    table = Table(["item", *columns, "ended"])
    for k in range(min(SHOWN, len(result.x))):
        values = [_short(v[k]) for v in columns.values()]
        table.add(k, *values, words(result.status[k], 120) if k < len(result.status) else "")
    return table


def _pictures(result: Reconstruction) -> Iterator[Block]:
    """A row for each item: what was measured, where that is a picture, what came out, how sure."""
    if result.x.dim() != 4 or 0 in result.x.shape:
        return
    first = result.x[:SHOWN]
    top = float(result.std[: len(first)].nan_to_num(0.0).max()) if result.std is not None else 0.0
    for k in range(len(first)):
        which = "" if len(result.x) == 1 else f", item {k}"
        row = [shown(name, image, top) for name, image in parts(result, k)]
        yield Pictures([(name + which, picture, said) for name, picture, said in row], _WIDTH)


def parts(result: Reconstruction, k: int) -> Iterator[tuple[str, Tensor]]:
    """(name, image (C, H, W)) of what there is of the k-th item."""
    known = result.measured
    if known is not None and known.physics.measures_images and known.y.dim() == 4:
        yield "measured", known.y[k]
    yield ("x" if result.samples is None else f"mean of {result.quantity_of_mean}"), result.x[k]
    if result.std is not None:
        yield "standard deviation", result.std[k]


def shown(name: str, image: Tensor, top: float) -> tuple[str, Any, str]:
    """As `Pictures` takes it; deviations in colours up to ``top``."""
    if name == "standard deviation":
        return name, map_of(image, top), ""
    picture, said = picture_of(image)
    large = max(image.shape[-2:]) > SIDE
    said = ", ".join(filter(None, (said, f"of {shape_of(image)}" if large else "")))
    return name, picture, said


def _over_pixels(values: Any, reduce: Any) -> Tensor | None:
    """One number of each item of (B, C, H, W)."""
    if not isinstance(values, Tensor) or values.dim() < 2:
        return None
    return reduce(values.flatten(1), dim=1)


def _short(value: Tensor) -> Any:
    return number(value.item(), 4) if value.is_floating_point() else int(value)
