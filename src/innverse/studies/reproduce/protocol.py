"""What Asim et al. 2020 (arXiv 1905.11672) measured, read from ``asim2020.toml``.

A method is a call of `innverse.solve`; an experiment crosses settings of a problem, sets of pictures
and methods. Weights, noise levels and widths that have a ``grid`` are chosen for every setting on
held-out training faces, by ``benchmarks/tune_asim2020.py``, which writes ``tuned.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from ..table import read_table

_TUNED = Path(__file__).with_name("tuned.json")

TABLE = read_table(__file__, "asim2020.toml")
PRIORS: dict[str, str] = TABLE["priors"]
PUBLISHED: dict[str, dict[str, dict[str, dict[str, float]]]] = TABLE["published"]
"""{experiment: {set: {method: {setting: dB}}}}"""


@dataclass(frozen=True)
class Method:
    """``solve(y, physics, prior, method, **options)``.

    Attributes:
        label: as on the page.
        role: which of `PRIORS` it needs, or None.
        grid: the options to choose among; the first is used where nothing was tuned.
    """

    label: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    role: str | None = None
    grid: tuple[Mapping[str, Any], ...] = ({},)


@dataclass(frozen=True)
class Experiment:
    """``methods`` on ``settings`` of a problem of `problems.FAMILIES`, for pictures of ``sets``."""

    title: str
    family: str
    settings: tuple[str, ...]
    sets: tuple[str, ...]
    methods: Mapping[str, Method]


@dataclass(frozen=True)
class Scale:
    """How much of the table is run.

    Attributes:
        images: of each set, at most.
        batch: pictures solved side by side, and in one cell.
        effort: {method: factor on its steps}; 1 for those that are not named.
        settings: experiment: how many of its settings; an experiment that is not named is left out.
        sets: the sets that are used.
        leave_out: methods that are not run.
    """

    images: int
    batch: int
    effort: Mapping[str, float]
    settings: Mapping[str, int]
    sets: tuple[str, ...]
    leave_out: tuple[str, ...] = ()


def _each(values: Mapping[str, list]) -> Iterator[dict[str, Any]]:
    """All combinations of one value for each option, the last option fastest."""
    return (dict(zip(values, chosen)) for chosen in product(*values.values()))


def _methods(group: str) -> dict[str, Method]:
    """The methods of a group; what it does not say of one is as in ``[methods]``."""
    found = {}
    for name, given in TABLE[group].items():
        entry = TABLE["methods"].get(name, {}) | given
        found[name] = Method(**entry | {"grid": tuple(_each(entry.get("grid", {})))})
    return found


def _ablation(group: str) -> dict[str, Method]:
    """A latent search by the flow, with every combination of what the ablation varies."""
    table = TABLE[group]
    return {
        table["name"].format(**o): Method(
            table["label"].format(**o), "latent", o | table["options"], "flow"
        )
        for o in _each(table["each"])
    }


METHODS = _methods("methods")
_GROUPS = {
    "methods": METHODS,
    "denoisers": _methods("denoisers"),
    "restorers": _methods("restorers"),
    "start_and_gamma": _ablation("start_and_gamma"),
    "z0_norm": _ablation("z0_norm"),
    "evaluations": {
        f"{name}, {n}": replace(METHODS[name], options={**METHODS[name].options, "steps": n})
        for name, budgets in TABLE["evaluations"].items()
        for n in budgets
    },
}
EXPERIMENTS = {
    name: Experiment(
        entry["title"],
        entry.get("family", name),
        tuple(entry["settings"]),
        tuple(TABLE["sets"][entry["sets"]]),
        _GROUPS[entry["methods"]],
    )
    for name, entry in TABLE["experiments"].items()
}
_EVERYTHING = {
    "effort": {},
    "settings": {name: len(e.settings) for name, e in EXPERIMENTS.items()},
    "sets": tuple(TABLE["sets"]["all"]),
}
SCALES = {name: Scale(**_EVERYTHING | entry) for name, entry in TABLE["scales"].items()}


@cache
def tuned() -> dict[str, Any]:
    """What ``benchmarks/tune_asim2020.py`` found: {experiment: {setting: {method: options}}}."""
    return json.loads(_TUNED.read_text("utf-8"))["chosen"] if _TUNED.is_file() else {}


def options(
    experiment: str, setting: str, name: str, method: Method, effort: Mapping[str, float]
) -> dict:
    """The options of a method in one setting, with the tuned ones among them."""
    base = name.split(",")[0]  # "flow, 80" of an ablation is tuned as "flow" is
    factor = effort.get(name, 1.0)
    family = EXPERIMENTS[experiment].family
    chosen = tuned().get(family, {}).get(setting, {}).get(base, method.grid[0])
    options = {**method.options, **(chosen if len(method.grid) > 1 else {})}
    for key in ("steps", "tune_steps"):
        if key in options:
            options[key] = max(1, round(factor * options[key]))
    return options
