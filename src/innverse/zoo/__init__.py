"""Shipped weights: ``load(name)`` gives a trained model, offline.

Small models lie here; larger ones are packages of data, made of the same repository.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

from ..errors import UsageError

__all__ = ["card", "folder", "load", "missing", "names", "training"]

_HOME = Path(__file__).parent
_PACKAGES = {"innverse_faces": ("faces64", "faces64-gan", "faces64-vae")}


def _shipped() -> dict[str, Path]:
    """Every model that is installed, and its folder."""
    found = (find_spec(package) for package in _PACKAGES)
    homes = [_HOME, *(Path(spec.origin).parent for spec in found if spec and spec.origin)]
    return {p.parent.name: p.parent for home in homes for p in home.glob("*/config.json")}


def missing() -> dict[str, str]:
    """Models that ship in packages which are not installed, and the commands that install them.

    Example:
        >>> missing().keys() & names()
        set()
    """
    return {
        name: f"pip install {package.replace('_', '-')}, or "
        f"./release/{package.removeprefix('innverse_')} in a checkout"
        for package, members in _PACKAGES.items()
        for name in members
        if name not in _shipped()
    }


def names() -> list[str]:
    """The models that are installed with this package, or beside it.

    Example:
        >>> "faces64" in names()
        True
    """
    return sorted(_shipped())


def folder(name: str | Path) -> Path:
    """Where the weights of a shipped model, or of a user's own, lie; of a run, those of its model.

    Example:
        >>> folder("faces64").name
        'faces64'
    """
    shipped = _shipped().get(str(name))
    if shipped:
        return shipped
    of_run = Path(name) / "model"
    return of_run if os.path.isfile(of_run / "config.json") else Path(name)


def load(name: str | Path, **options):
    """A trained flow or generator by its name in the zoo, the folder it was saved to, or a hub id.

    In eval mode, parameters frozen (``trainable=True`` thaws them). A hub id is "user/name" with
    ``revision=`` a commit, or "user/name@commit"; without one the model may be another tomorrow, and a
    warning says which it is today. Raises UsageError for an unknown name, or one whose package is not
    installed; InputError for damaged files.

    Example:
        >>> load("digits").shape
        (1, 8, 8)
    """
    path = folder(name)
    if not os.path.isdir(path) and "/" not in str(name):
        if command := missing().get(str(name)):
            raise UsageError(f"the weights of {str(name)!r} are a package of their own: {command}")
        raise UsageError(f"no model is called {name!r}: choose {', '.join(names())}, or a folder")
    from ..models.store import load as read

    return read(path, **options)


def card(name: str | Path) -> str:
    """The model card: data, licence, settings, command, metrics.

    Example:
        >>> "# digits" in card("digits")
        True
    """
    from ..models.hub import read_card

    return read_card(folder(name))


def training(name: str | Path) -> dict[str, float]:
    """What the card tells of the training, or nothing: "steps", "batch_size" and "minutes".

    Minutes are those of the processor, or on older cards those of the clock.

    Example:
        >>> sorted(training("faces64"))
        ['batch_size', 'minutes', 'steps']
    """
    work = r"(?:, ([\d.]+) of processor time)?"
    pattern = r"(\d+) steps of (\d+) crops (?:on .{1,40}? )?in ([\d.]+) minutes" + work
    told = re.search(pattern, " ".join(card(name).split()))
    if told is None:
        return {}
    steps, batch_size, clock, processor = told.groups()
    minutes = float(processor or clock)
    return {"steps": int(steps), "batch_size": int(batch_size), "minutes": minutes}
