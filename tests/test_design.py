"""The map of docs/design.md against the imports: one-way arrows, no circles, every room named.

Imports inside functions count; those for type checkers alone do not run, and do not count.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import innverse

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "innverse"

# Walls that are being moved: rooms that the page may name while they are not there. Empty in the end.
MOVING: set[str] = set()

# What still runs against the map, to be mended: these lists may only shrink.
BACK_ARROWS: set[tuple[str, str]] = set()
CIRCLES: list[set[str]] = []
CIRCLING_ROOMS: set[str] = set()


def rooms() -> list[str]:
    """The names in the block of the page, lowest first."""
    page = (ROOT / "docs" / "design.md").read_text("utf-8")
    (block,) = re.findall(r"^```rooms\n(.*?)^```", page, re.S | re.M)
    return [line.split()[0] for line in block.splitlines() if line.strip()]


def modules(source: Path) -> dict[str, Path]:
    """{dotted name below the package: file}; a package has the name of its folder, the root ""."""
    found = {}
    for file in source.rglob("*.py"):
        parts = file.relative_to(source).with_suffix("").parts
        found[".".join(p for p in parts if p != "__init__")] = file
    return found


def imports(name: str, known: dict[str, Path], package: str = "innverse") -> Iterator[str]:
    """The modules of the package that a module imports, anywhere in its code.

    ``from .. import __version__`` is no import of the root: it is known before everything else.
    """
    file = known[name]
    here = [part for part in name.split(".") if part]
    here = here if file.name == "__init__.py" else here[:-1]
    for node in _running(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            places = [a.name.split(".") for a in node.names]
            targets = [(".".join(p[1:]), None) for p in places if p[0] == package]
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            if node.level:
                base = [*here[: len(here) - node.level + 1], *module]
            elif module[:1] == [package]:
                base = module[1:]
            else:
                continue
            targets = [(".".join(base), alias.name) for alias in node.names]
        else:
            continue
        for base, attribute in targets:
            inner = f"{base}.{attribute}".lstrip(".") if attribute else base
            if inner in known:
                yield inner
            elif base in known and (base, attribute) != ("", "__version__"):
                yield base


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
        for node in tree.orelse:
            yield from _running(node)
        return
    yield tree
    for node in ast.iter_child_nodes(tree):
        yield from _running(node)


def room(module: str) -> str:
    return module.partition(".")[0]


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected parts of more than one node: all that reach each other."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen, todo = set(), [start]
        while todo:
            new = graph.get(todo.pop(), set()) - seen
            seen |= new
            todo += new
        reach[start] = seen
    found = []
    for node in graph:
        whole = {other for other in reach[node] if node in reach.get(other, ())} | {node}
        if len(whole) > 1 and whole not in found:
            found.append(whole)
    return found


KNOWN = modules(SOURCE)
GRAPH = {name: set(imports(name, KNOWN)) - {name} for name in KNOWN}
FACADE = {"", "__main__"}  # the package itself, which loads its rooms by name, and its entry


def test_every_room_is_on_the_map_and_every_name_is_a_room():
    there, named = {room(name) for name in KNOWN} - FACADE, rooms()
    assert len(set(named)) == len(named)
    assert there - set(named) == set(), "docs/design.md: add a line for each of these rooms"
    assert set(named) - there - MOVING == set(), "docs/design.md names rooms that are not there"


def test_no_arrow_runs_back():
    order = {name: k for k, name in enumerate(rooms())}
    back = {
        (room(name), room(other)): f"{name} imports {other}"
        for name in GRAPH.keys() - FACADE
        for other in GRAPH[name]
        if room(name) != room(other) and order.get(room(other), len(order)) >= order[room(name)]
    }
    found = {arrow: what for arrow, what in back.items() if arrow not in BACK_ARROWS}
    assert found == {}, "only rooms further up in the list of docs/design.md may be imported"


def test_no_files_import_each_other_in_a_circle():
    found = [
        circle
        for circle in circles(GRAPH)
        if not any(circle <= known for known in CIRCLES)
        and not {room(name) for name in circle} <= CIRCLING_ROOMS
    ]
    assert found == []


def test_the_reading_of_imports_sees_what_it_should(tmp_path):
    texts = {
        "a/__init__.py": "from .inner import f\n",
        "a/inner.py": "def f():\n    from ..b import g\n    import package.c\n    return g\n",
        "b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .c import h\n",
        "c.py": "from . import a, __version__\nfrom package.b import x\n",
        "__init__.py": "__version__ = '1'\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    known = modules(tmp_path)
    graph = {name: set(imports(name, known, "package")) for name in known}
    assert graph == {
        "": set(),
        "a": {"a.inner"},
        "a.inner": {"b", "c"},
        "b": set(),
        "c": {"a", "b"},
    }
    assert circles(graph) == [{"a", "a.inner", "c"}]


def test_studies_are_out_of_reach_of_what_others_import():
    assert "studies" not in innverse.__all__
    code = (
        "import sys, innverse\n"
        "for name in innverse.__all__: getattr(innverse, name)\n"
        "print(*(m for m in sys.modules if m.startswith('innverse.studies')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
    others = {name for name in GRAPH if "studies" in map(room, GRAPH[name])}
    assert {room(name) for name in others} <= {"studies", "cli"}
