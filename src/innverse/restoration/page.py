"""The page of a posterior: the picture, its error bar, and whether to believe them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..report import Report, Table
from ..solvers.posterior.verdict import ALIKE, ALIKE_ALL, ENOUGH
from . import error_bars

_SMALL = 200  # pixels; below, single pixels are kept sharp


def make_page(summary: dict[str, Any], pictures: Sequence[tuple], unit: Tensor) -> Report:
    """Of what result.json says, the pictures of the panel, and the draws (S, C, H, W) on [0, 1]."""
    told, small = summary["posterior"], unit.shape[-1] < _SMALL
    kind = "approximate draws" if "approximate" in told else "draws"
    page = Report(
        summary["file"],
        f"{told['draws']} {kind} of what explains the data, by {summary['method']} · innverse "
        f"{summary['innverse']}",
    )
    trusted = summary["converged"] and "approximate" not in told
    page.note(_verdict(summary), warning=not trusted)
    page.images(pictures[:3], pixels=small)
    if len(pictures) > 3:
        page.images(pictures[3:], pixels=small, columns=3)  # each below what it is the truth of
    page.text(
        f"Bright is what the data and the model leave open: the error bar is the standard deviation "
        f"of {told['quantity_of_mean']}. {error_bars.what_is_drawn(told['quantity'])}"
    )
    page.table(_believe(summary))
    if "coverage" in told:
        page.table(error_bars.coverage_table(told["coverage"])).text(_TRUTH)
    page.heading("Draws").text(
        "Each is a picture that explains the data as well as the next; what differs between them the "
        "data do not tell."
    )
    page.images(
        [(f"draw {k + 1}", "", x) for k, x in enumerate(error_bars.thinned(unit, 4))], pixels=small
    )
    page.animation(error_bars.animate(unit), "one draw after the other")
    return page


def _verdict(summary: dict[str, Any]) -> str:
    if words := summary["posterior"].get("approximate"):
        return f"These draws are approximate ({words}), and so are the error bars."
    if summary["converged"]:
        return "The chains agree: mean and error bar can be believed as far as the model can."
    return f"Do not rely on these error bars yet: {summary['status']}."


_TRUTH = (
    "Here the truth is known. Over all pixels an interval should hold the true value as often as it "
    "says; one picture is one sample, and neighbouring pixels err together, so expect some per cent "
    "of difference."
)


def _believe(summary: dict[str, Any]) -> Table:
    told = summary["posterior"]
    table = Table(["", "value", "should be"])
    if "r_hat" in told:
        table.add("R-hat, 99 % of the pixels", f"{told['r_hat']['99 %']:.3f}", f"<=\u00a0{ALIKE:g}")
        table.add("R-hat, largest", f"{told['r_hat']['largest']:.3f}", f"<=\u00a0{ALIKE_ALL:g}")
    for name, words in (("ess_bulk", "mean"), ("ess_tail", "tails")):
        if name in told:
            label = f"effective draws of the {words}, median pixel"
            table.add(label, round(told[name]["median"]), f">=\u00a0{ENOUGH}")
    if "acceptance" in told:
        table.add("acceptance", f"{told['acceptance']:.2f}", "0.6\u00a0to\u00a00.95")
    if "divergences" in told:
        table.add("divergences", told["divergences"], "0")
    if "predictive_p_value" in told:
        p = told["predictive_p_value"]
        table.add("do the draws explain the data? p", f"{p:.2f}", ">=\u00a00.01")
    if "unseen" in told:
        table.add(
            "share of the variance that A does not see", f"{100 * told['unseen']:.0f} %", None
        )
    return table
