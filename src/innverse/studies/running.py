"""What every study does before its measurements and after them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..data import write_json
from ..errors import InnverseError
from ..report import Report


def require_packages(who: str) -> None:
    """Before the computing, not after it.

    Raises:
        InnverseError: what photographs or plots need is not installed.
    """
    for module, package in (("skimage", "scikit-image"), ("matplotlib", "matplotlib")):
        if find_spec(module) is None:
            raise InnverseError(f'{who} needs {package}: pip install "innverse[demo]"')


def command_line() -> str:
    """What the user typed, for the last lines of a page."""
    return shlex.join(["innverse", *sys.argv[1:]])


def write(folder: Path, results: Any, page: Callable[[], Report]) -> Path:
    """results.json, and then report.html from what ``page`` gives; returns the latter's path."""
    write_json(folder / "results.json", results)
    return page().save(folder / "report.html")
