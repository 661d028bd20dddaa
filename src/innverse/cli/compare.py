"""``innverse compare``: INN, VAE and GAN on the same images, one page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..errors import UsageError
from ..progress import Progress
from .options import Device, Json, Quiet, Seed, check_writable, note, print_json, start

_UNKNOWN = "The models were trained before; what their cards tell of it stands under the cost."
_SHIPPED = {"faces": ("faces64", "faces64-vae", "faces64-gan")}


def compare(
    *,
    data: str,
    out: Path = Path("runs/compare"),
    subset: str | None = None,
    models: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    budget: float = 0.5,
    test: str | None = None,
    test_subset: str | None = None,
    ood: str | None = None,
    ood_subset: str | None = None,
    temperature: float = 0.7,
    quick: bool = False,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Compare an invertible network with a VAE and a GAN, claim by claim.

    innverse compare --data digits --out runs/digits-three
    innverse compare --data faces --test faces.tar --out runs/faces-three
    innverse compare --data photos/ --budget 30 --out runs/photos-three

    Likelihood, latents, range, memory, cost, code and samples are measured on the
    same images. Writes report.html (one file) and results.json.

    Parameters
    ----------
    data
        faces: the shipped models. digits, or a folder, tar, .npy, ...: three models are trained.
    out
        Folder for the results, and for what is trained.
    subset
        A part of --data, such as a folder in a tar.
    models
        Shipped names or folders to compare instead: an INN, and any of an injective flow, a VAE, a
        GAN.
    budget
        Minutes that each model is trained.
    test
        Images that no model has seen. [default: those held out of the training; for faces gray
        ones from scikit-image]
    test_subset
        A part of --test.
    ood
        Images of another kind. [default: photographs from scikit-image]
    ood_subset
        A part of --ood.
    temperature
        Of the samples shown; distances are also measured at 1.
    quick
        Few draws and short searches: seconds, and worse numbers.
    """
    if not budget > 0:
        raise UsageError(f"--budget {budget:g}: give minutes above 0")
    if not 0 < temperature < float("inf"):
        raise UsageError(f"--temperature {temperature:g}: must be above 0")
    for part, whole in (("test", test), ("ood", ood)):
        if {"test": test_subset, "ood": ood_subset}[part] is not None and whole is None:
            raise UsageError(f"--{part}-subset is a part of --{part}: give both")
    check_writable(out)
    target = start(device)
    started = time.perf_counter()
    from ..studies.compare import (
        Contestant,
        Data,
        Settings,
        claims,
        images,
        make_page,
        make_table,
        table_of,
    )  # fmt: skip
    from ..studies.compare import compare as measure
    from ..studies.running import command_line, write

    names, unseen, fair = list(models or _SHIPPED.get(data, ())), None, _UNKNOWN
    if not names:
        names, unseen, fair = _train(data, subset, out / "models", budget, seed, target, quiet)
    if not names:
        return 130
    contestants = [Contestant.load(name, target) for name in names]
    model = contestants[0].model
    if test is not None:
        tests = images.read(test, test_subset, model)
    elif unseen is not None:
        tests = unseen.stack(), f"held out of {Path(data).name}"
    else:
        tests = images.faces(model.shape)
    others = images.photographs(model) if ood is None else images.read(ood, ood_subset, model)
    few = {"draws": 64, "importance": 8, "searched": 4, "restarts": 1, "steps": 10}
    settings = Settings(temperature=temperature, seed=seed, **(few if quick else {}))
    with Progress("comparing", quiet=quiet) as progress:
        found = measure(contestants, Data(*tests, *others), settings, progress)
    results: dict[str, Any] = {
        "data": data,
        "test": tests[1],
        "other": others[1],
        "settings": vars(settings),
        "models": [{"label": c.label, "name": c.name} for c in found.contestants],
        "table": table_of(found),
        "bytes_by_depth": found.depth,
        "frechet_between_halves_of_test": found.frechet_floor,
    }
    title = f"Invertible network, VAE and GAN: {Path(data).name}"
    page = write(out, results, lambda: make_page(found, title, command_line(), fair))
    if json:
        print_json(results)
        return 0
    for claim in claims(found):
        table = make_table(found, claim)
        table.title = claim.title
        table.print()
    print(f"{page}  ({time.perf_counter() - started:.0f} s)")
    return 0


def _train(data: str, subset: str | None, folder: Path, minutes: float, seed: int, target, quiet):
    """(folders of three trained models, the images held out, what was fair); none if interrupted."""
    from ..studies.compare import recipes

    used, subset, source = recipes.prepare(data, subset, folder)
    settings = recipes.recipes(used, subset, source, seed)
    folders = recipes.train_three(
        settings, folder, minutes, str(target), quiet, lambda text: note(text, quiet)
    )
    fair = (
        f"All three were trained on the same images for {minutes:g} minutes each on this machine; VAE "
        "and GAN have the width that brings them nearest to the INN's number of parameters."
    )
    return [str(f) for f in folders or ()], recipes.held_out(source), fair
