"""innverse: invertible neural networks as exact densities and as priors for inverse problems.

The public names below are loaded on first use, so that ``import innverse`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .fitting.fit import fit as fit
    from .flows.flow import Flow as Flow
    from .restoration.run import restore as restore
    from .solvers.solve import Reconstruction as Reconstruction
    from .solvers.solve import solve as solve
    from .zoo import load as load

_PUBLIC = {
    "Flow": ".flows.flow",
    "fit": ".fitting.fit",
    "Reconstruction": ".solvers.solve",
    "restore": ".restoration.run",
    "solve": ".solvers.solve",
    "load": ".zoo",
}
_ROOMS = {
    "amortized",
    "bijections",
    "data",
    "flows",
    "generators",
    "metrics",
    "nets",
    "physics",
    "solvers",
    "train",
    "zoo",
}

__all__ = ["__version__", *_PUBLIC, *sorted(_ROOMS)]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name], __name__), name)
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
