"""What a study is apart from its code: a TOML file of its settings, its sentences and its numbers."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def read_table(module: str, name: str) -> dict[str, Any]:
    """The table ``name`` beside the file of a module."""
    return tomllib.loads(Path(module).with_name(name).read_text("utf-8"))
