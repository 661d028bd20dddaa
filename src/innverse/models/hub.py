"""Models on the hub of Hugging Face (extra ``hub``): fetched at a revision, and brought there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InnverseError, InputError, UsageError, first_line, warn
from ..reading import read_bytes
from .cards import at, lacks
from .tensors import CONFIG, WEIGHTS

CARD = "README.md"
_LONGEST_CARD = 16 << 20  # bytes
_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Pushed:
    """What was brought to the hub, or in a dry run would be.

    Attributes:
        repo: "user/name". files: {name: bytes}.
        lacks: what the card should tell and does not; with any of it nothing is pushed.
        revision: the commit, for ``innverse.load(repo, revision=)``; None in a dry run.
    """

    repo: str
    files: dict[str, int]
    lacks: list[str]
    revision: str | None = None


def fetch(name: str, revision: str | None = None) -> Path:
    """The folder of "user/name" or "user/name@revision", from the hub or its cache.

    Without a revision it is whatever the repository's main branch holds today: a warning names that
    commit.

    Raises:
        InputError: no such repository or revision, no network, or the extra is not installed.
        UsageError: a revision in both places.
    """
    repo, _, given = name.partition("@")
    if given and revision is not None:
        raise UsageError(f"{name!r} names a revision already: leave out revision={revision!r}")
    if not _NAME.fullmatch(repo):
        raise InputError(f"{name!r} is no folder with a saved model")
    try:
        from huggingface_hub import snapshot_download  # ty: ignore[import-not-found]: optional
    except ImportError:
        raise InputError(
            f"{name!r} is no folder; to fetch it from the hub install innverse[hub]"
        ) from None
    wanted = revision or given or None
    try:
        found = snapshot_download(repo, revision=wanted, allow_patterns=[WEIGHTS, CONFIG, CARD])
    except Exception as error:
        raise InputError(f"cannot fetch {name!r} from the hub: {first_line(error)}") from None
    folder = Path(found)
    if wanted is None:
        warn(f"{repo} may change: '{repo}@{folder.name}' is what was loaded now, for ever")
    return folder


def push(
    folder: Path, repo: str, *, private: bool = True, dry_run: bool = False, message: str = ""
) -> Pushed:
    """Bring the model in a folder to the hub, with the pictures that its card shows.

    Raises:
        UsageError: a name that is not "user/name", or a card that does not tell all it should.
        InnverseError: the extra is not installed, or the hub refuses.
    """
    check_name(repo)
    card = at(read_card(folder), repo)
    shown = re.findall(r"!\[[^\]]*\]\(([\w-]+\.png)\)", card)
    content: dict[str, Path | bytes] = {CARD: card.encode()}
    content |= {name: folder / name for name in (CONFIG, WEIGHTS, *shown)}
    sizes = {
        name: len(file) if isinstance(file, bytes) else os.path.getsize(file)
        for name, file in content.items()
    }
    plan = Pushed(repo, sizes, lacks(card))
    if dry_run:
        return plan
    if plan.lacks:
        raise UsageError(
            f"the card of this model does not tell its {', '.join(plan.lacks)}: save_pretrained("
            "folder, data=, license=, command=, metrics=) does, or edit its README.md"
        )
    try:
        from huggingface_hub import (  # ty: ignore[import-not-found]: optional
            CommitOperationAdd,
            HfApi,
        )
    except ImportError:
        raise InnverseError("the hub needs an extra: pip install 'innverse[hub]'") from None
    try:
        hub = HfApi()
        hub.create_repo(repo, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, file) for name, file in content.items()]
        done = hub.create_commit(repo, operations, commit_message=message or "A model of innverse")
    except Exception as error:
        raise InnverseError(f"cannot push to {repo}: {first_line(error)}") from None
    return Pushed(repo, sizes, [], done.oid)


def check_name(repo: str) -> None:
    """UsageError unless it is a name on the hub."""
    if not _NAME.fullmatch(repo):
        raise UsageError(f"{repo!r} is no name on the hub: it is USER/NAME")


def read_card(folder: Path) -> str:
    """The card in the folder of a model, or nothing."""
    path = folder / CARD
    if not os.path.isfile(path):
        return ""
    return read_bytes(path, _LONGEST_CARD).decode(errors="replace")
