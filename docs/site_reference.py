"""The reference: a page for every room, made of its ``__all__``, and one for every public name."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import innverse

ROOMS = [
    *("flows", "bijections", "nets", "generators", "zoo", "coding", "fitting", "physics"),
    *(
        "solvers",
        "amortized",
        "metrics",
        "metrics.calibration",
        "data",
        "train",
        "protocols",
        "report",
    ),
]
_HEAD = """\
Reference
=========

Every public name, with its shapes, units, errors and an example that the tests run. The commands
explain themselves: ``innverse --help``, ``innverse solve --help``.

.. currentmodule:: innverse

.. autosummary::
   :toctree: innverse

{names}

{rooms}

.. toctree::
   :hidden:

{pages}
"""
_ROOM = """\
{title}
{line}

.. automodule:: innverse.{room}
   :no-members:

.. currentmodule:: innverse.{room}

.. autosummary::
   :toctree: {room}

{names}
"""


def write(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    top = [n for n in innverse.__all__ if inspect.isfunction(getattr(innverse, n))]
    rooms = "\n".join(f"- :doc:`innverse.{room} <{room}>`: {_about(room)}" for room in ROOMS)
    pages = _indented(f"innverse.{room} <{room}>" for room in ROOMS)
    wanted = {f"innverse.{name}" for name in top}
    wanted |= {f"innverse.{room}.{name}" for room in ROOMS for name in public(room)}
    for stub in folder.glob("*/*.rst"):  # of names that were public before
        if stub.stem not in wanted:
            stub.unlink()
    _write(folder / "index.rst", _HEAD.format(names=_indented(top), rooms=rooms, pages=pages))
    for room in ROOMS:
        title = f"innverse.{room}"
        text = _ROOM.format(
            title=title, line="=" * len(title), room=room, names=_indented(public(room))
        )
        _write(folder / f"{room}.rst", text)


def public(room: str) -> list[str]:
    """The classes and functions of a room."""
    module = importlib.import_module(f"innverse.{room}")
    names = getattr(module, "__all__", None)
    if names is None:  # a file: what it defines
        names = [
            n for n, t in vars(module).items() if getattr(t, "__module__", "") == module.__name__
        ]
    return [n for n in sorted(names, key=str.lower) if callable(getattr(module, n)) and n[0] != "_"]


def _about(room: str) -> str:
    """The first line of its docstring."""
    return _escape_line((importlib.import_module(f"innverse.{room}").__doc__ or "").split("\n")[0])


def _indented(lines) -> str:
    return "\n".join(f"   {line}" for line in lines)


def _write(page: Path, text: str) -> None:
    if not page.exists() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")


_CODE = re.compile(r"(``.*?``|`[^`]*`)")


def escape(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are plain text with mathematics: outside code, | and * mean themselves."""
    lines[:] = [
        line if line.lstrip().startswith((">>>", "...")) else _escape_line(line) for line in lines
    ]


def _escape_line(line: str) -> str:
    parts = _CODE.split(line)
    parts[::2] = [re.sub(r"[|*]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts)
