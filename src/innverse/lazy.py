"""Names of a package that are imported when they are first used.

The package lists them once, as imports that only type checkers run::

    if TYPE_CHECKING:
        from .adapt import as_physics as as_physics

    __getattr__, __dir__, __all__ = lazy(__name__)

so that editors and type checkers see what it holds, and its import costs nothing.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from inspect import getsource


def lazy(package: str) -> tuple[Callable, Callable, list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of the package that calls it."""
    homes = _homes(getsource(sys.modules[package]))

    def load(name: str):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, attribute = homes[name]
        # `from . import room` is a module of its own, whatever names the package has
        found = import_module(f".{home or attribute}", package)
        found = getattr(found, attribute) if home else found
        setattr(sys.modules[package], name, found)
        return found

    names = sorted(homes)
    return load, lambda: names, names


def _homes(source: str) -> dict[str, tuple[str, str]]:
    """Where each name comes from: module and attribute, of the imports for type checkers."""
    blocks = [
        node.body
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for block in blocks
        for node in block
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
