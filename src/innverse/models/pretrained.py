"""What every whole model has: its size, files, and a place on the hub."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypedDict, Unpack

from ..errors import InputError
from .parts import Part

if TYPE_CHECKING:
    from .hub import Pushed


class About(TypedDict, total=False):
    """What only its maker can tell of a model."""

    data: str  # what it learned from, how much, what was held out
    license: str  # of the data
    command: str  # that trains it again
    metrics: Mapping[str, float]  # {what was measured: value}


class Pretrained(Part):
    """Base of flows and generators, modules that `innverse.load` reads."""

    loaded: tuple[str, str] | None = (
        None  # the hash of the weights that were loaded, and their card
    )

    @property
    def n_parameters(self) -> int:
        """Of all networks, with those that only training or encoding needs."""
        return sum(p.numel() for p in self.parameters())  # ty: ignore[missing-attribute]  # of a Module

    def save_pretrained(
        self, folder: str | Path, card: str | None = None, **about: Unpack[About]
    ) -> None:
        """Write config.json, model.safetensors and README.md (the hub's layout).

        The last is the ``card`` in Markdown. Without one it is made of the model and of what you tell
        ``about`` it: ``data`` (what it learned from), ``license`` (of the data), ``command`` (that
        trains it again) and ``metrics`` ({what was measured: value}).

        Example:
            >>> import tempfile
            >>> flow = innverse.flows.build("realnvp", (2,), layers=2, width=8)
            >>> with tempfile.TemporaryDirectory() as place:
            ...     flow.save_pretrained(place, data="2000 draws of two moons", license="CC0")
            ...     print(innverse.zoo.card(place).split("## ")[1])
            Data
            2000 draws of two moons.
            License of the data: CC0.
        """
        from .store import save

        save(self, Path(folder), card, **about)

    def push_to_hub(
        self,
        repo: str,
        card: str | None = None,
        *,
        private: bool = True,
        dry_run: bool = False,
        message: str = "",
        **about: Unpack[About],
    ) -> Pushed:
        """Bring the model to the hub of Hugging Face (extra ``hub``), as `save_pretrained` writes it.

        Args:
            repo: "user/name"; made if there is none.
            private: whether a new one is seen by you alone.
            dry_run: write and check everything, and send nothing.
            message: of the commit.

        Raises:
            UsageError: the card does not tell data, license, command, settings and metrics.
            InnverseError: the extra is not installed, or the hub refuses (no network, no token).

        Example:
            >>> flow = innverse.flows.build("realnvp", (2,), layers=2, width=8)
            >>> plan = flow.push_to_hub("me/moons", dry_run=True, data="two moons", license="CC0")
            >>> sorted(plan.files), plan.lacks
            (['README.md', 'config.json', 'model.safetensors'], ['command', 'metrics'])
        """
        from .hub import check_name, push

        check_name(repo)  # of which a folder is made
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / repo.rpartition("/")[2]
            self.save_pretrained(folder, card, **about)
            return push(folder, repo, private=private, dry_run=dry_run, message=message)

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
