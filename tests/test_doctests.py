"""The reference runs: every public name has a docstring, and its examples are true.

An example is pasted after ``import torch, innverse`` and ``from innverse.ROOM import *`` of the room in
which it stands; what else it needs it imports. Random numbers are those of seed 0.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest
import torch

import innverse

SOURCE = Path(innverse.__file__).parent
ROOMS = sorted(n for n in [*innverse.__all__, "fitting", "report"] if (SOURCE / n).is_dir())

# Public names without an example: it may only fall.
WITHOUT = 0


def public(room: str) -> dict[str, object]:
    """The classes and functions of a room's ``__all__``."""
    module = importlib.import_module(f"innverse.{room}")
    named = {name: getattr(module, name) for name in module.__all__}
    return {k: v for k, v in named.items() if callable(v) and not inspect.ismodule(v)}


def documented() -> list[str]:
    """The modules with examples."""
    files = (f for f in sorted(SOURCE.rglob("*.py")) if ">>> " in f.read_text("utf-8"))
    return [".".join(("innverse", *f.relative_to(SOURCE).with_suffix("").parts)) for f in files]


def own_docstring(thing: object) -> str:
    """Not that of a base class."""
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else inspect.getdoc(thing)
    return text or ""


@pytest.mark.parametrize("module", documented())
@pytest.mark.filterwarnings(
    "error",
    "ignore:.torch.jit.script. is deprecated:DeprecationWarning",  # PyTorch's own first jvp
)
def test_examples_run_and_give_what_they_show(module, tmp_path, monkeypatch):
    if module == "innverse.clusters.connect":
        pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    room = module.split(".")[1]
    scope = {"torch": torch, "innverse": innverse, "__name__": "__main__"}
    scope |= public(room) if room in ROOMS else {}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    loaded = importlib.import_module(module.removesuffix(".__init__"))
    if room not in ROOMS:
        scope |= vars(loaded)
    said: list[str] = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(loaded, globs=scope):
        torch.manual_seed(0)
        runner.run(test, out=said.append)
    assert runner.tries > 0 and runner.failures == 0, "".join(said)


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_is_public_and_what_it_is(room):
    module = importlib.import_module(f"innverse.{room}")
    assert module.__doc__ and sorted(set(module.__all__)) == sorted(module.__all__)
    assert [name for name, thing in public(room).items() if len(own_docstring(thing)) < 20] == []


def test_every_public_name_has_an_example_but_these():
    things = {f"{room}.{name}": thing for room in ROOMS for name, thing in public(room).items()}
    without = [name for name, thing in things.items() if ">>> " not in own_docstring(thing)]
    assert len(without) <= WITHOUT, without
    assert not any("doctest: +SKIP" in own_docstring(thing) for thing in things.values())
