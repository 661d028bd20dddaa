"""``innverse push``: a model of one's own for others, on the hub of Hugging Face."""

from __future__ import annotations

from pathlib import Path

from .options import Json, print_json


def push(
    model: str,
    repo: str,
    /,
    *,
    public: bool = False,
    dry_run: bool = False,
    message: str = "",
    json: Json = False,
) -> int:
    """Bring a model to the hub: weights, configuration, and the card with its pictures.

    innverse push runs/own you/own --dry-run
    innverse push runs/own you/own

    Needs the extra innverse[hub] and a token of yours (hf auth login). The model is read and checked
    first, and its card must tell data, license, command, settings and metrics. Others load it by
    the name and the commit that are printed.

    Parameters
    ----------
    model
        Folder of a model, or of the run that made it.
    repo
        USER/NAME on the hub; made if there is none.
    public
        A new one is seen by everybody, not by you alone.
    dry_run
        Write what would be sent, and send nothing.
    message
        Of the commit.
    """
    from ..models.hub import push as send
    from ..zoo import folder, load

    load(model)  # one that nobody can load stays here
    done = send(folder(Path(model)), repo, private=not public, dry_run=dry_run, message=message)
    if json:
        print_json(vars(done))
        return 0
    for name, size in done.files.items():
        print(f"{size:>12,} bytes  {done.repo}/{name}")
    if done.lacks:
        print(f"the card does not tell: {', '.join(done.lacks)} (edit README.md)")
    if done.revision:
        print(f'innverse.load("{done.repo}", revision="{done.revision}")')
    return 0
