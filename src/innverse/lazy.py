"""Names of a package that are imported when they are first used.

The package lists them once, one a line, as imports that only type checkers run::

    if TYPE_CHECKING:
        from .adapt import as_physics as as_physics

    __getattr__, __dir__, __all__ = lazy(__name__)

so that editors and type checkers see what it holds, and its import costs nothing. A name must not be
that of a module of the package: once imported, the module would take its place.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module

_IMPORT = re.compile(r"^    from \.(\S*) import (\w+)(?: as \w+)?$", re.MULTILINE)


def lazy(package: str) -> tuple[Callable, Callable, list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of the package that calls it."""
    module = sys.modules[package]
    loader, path = vars(module)["__loader__"], vars(module)["__file__"]
    source = loader.get_data(path).decode()
    homes = {name: home for home, name in _IMPORT.findall(source)}

    def load(name: str):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = import_module(f".{homes[name] or name}", package)
        found = getattr(found, name) if homes[name] else found
        setattr(module, name, found)
        return found

    names = sorted(homes)
    return load, lambda: names, names
