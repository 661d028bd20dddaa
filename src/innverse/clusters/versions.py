"""Whether the workers compute with what we compute with."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

from .. import __version__


@cache
def versions() -> dict[str, str]:
    """Those on which results, and what travels, depend; of torch without its build (+cpu, +cu130)."""
    torch = metadata.version("torch").partition("+")[0]
    python = ".".join(platform.python_version_tuple()[:2])
    return {"innverse": __version__, "torch": torch, "python": python}


def difference(theirs: dict[str, str], ours: dict[str, str]) -> str:
    """``torch 2.11.0 (here 2.13.0)``; "" where there is none."""
    return ", ".join(
        f"{name} {theirs.get(name)} (here {version})"
        for name, version in ours.items()
        if theirs.get(name) != version
    )
