"""Models on their way to another process."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from .store import load, save


@dataclass(frozen=True)
class Travelling:
    """What arrives, once pickled, as the ``model`` itself.

    A model with parametrized layers, which pickle refuses, travels as it is saved.
    """

    model: Any

    def __reduce__(self) -> tuple:
        modules = self.model.modules() if isinstance(self.model, nn.Module) else ()
        if not any(is_parametrized(module) for module in modules):
            return _itself, (self.model,)
        with tempfile.TemporaryDirectory() as folder:
            save(self.model, Path(folder))
            return _loaded, ({file.name: file.read_bytes() for file in Path(folder).iterdir()},)


def _itself(model: Any) -> Any:
    return model


def _loaded(files: dict[str, bytes]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        return load(folder)
