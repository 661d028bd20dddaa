"""What every whole model has: its size, and files."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from ..errors import InputError
from .parts import Part


class Pretrained(Part):
    """Base of flows and generators, modules that `innverse.load` reads."""

    @property
    def n_parameters(self) -> int:
        """Of all networks, with those that only training or encoding needs."""
        return sum(p.numel() for p in self.parameters())  # ty: ignore[missing-attribute]  # of a Module

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write config.json, model.safetensors and README.md (the hub's layout)."""
        from .store import save

        save(self, Path(folder), card)

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path, **options) -> Self:
        """Read what `save_pretrained` wrote: a folder, or a hub id with the ``hub`` extra.

        Raises:
            InputError: it holds no model of this class.
        """
        from .store import load

        model = load(path_or_id, **options)
        if not isinstance(model, cls):
            raise InputError(f"{path_or_id} holds a {model.name}, not a {cls.__name__}")
        return model
