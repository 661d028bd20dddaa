"""``innverse reproduce``: a published study, run again from the shipped weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ..errors import UsageError
from ..progress import Progress
from .entry import complain
from .options import (
    Cluster,
    Device,
    Json,
    Quiet,
    check_writable,
    load_model,
    note,
    on_cluster,
    print_json,
    start,
)

app = App(name="reproduce", help="Run a published study again.")


@app.command
def asim2020(
    *,
    out: Path,
    data: str | None = None,
    quick: bool = False,
    full: bool = False,
    only: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    prior: str | None = None,
    device: Device = "auto",
    cluster: Cluster = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Invertible generative models for inverse problems (Asim et al., ICML 2020).

    innverse reproduce asim2020 --quick --out runs/asim2020
    innverse reproduce asim2020 --full --data faces_test.tar --out runs/asim2020

    Writes report.html (one file), results.csv, results.json, and one small file for each
    finished part below cells/; the same command again continues where it stopped.
    Without --quick or --full: eight pictures of each set, some hours.

    Parameters
    ----------
    out
        Folder for the results.
    data
        Test pictures: a tar or folder with the folders celebahq, ffhq, birds12, flowers12, ood28,
        or any other pictures. [default: the faces inside scikit-image]
    quick
        Two pictures of each set and the main settings: less than ten minutes.
    full
        All pictures and all settings: many hours.
    only
        Compute only these parts, and put what was finished before beside them: patterns of
        experiment/setting/set/method, such as "compressed_sensing/0.2/*/lasso_*".
    prior
        Name or folder of the flow. [default: faces64]
    """
    if quick and full:
        raise UsageError("--quick and --full: choose one")
    from ..studies.running import command_line, require_packages, write

    require_packages("this study")
    check_writable(out)
    chosen = start(device if cluster is None else "cpu")

    from ..studies.reproduce.cells import plan, run_cell
    from ..studies.reproduce.figures import table
    from ..studies.reproduce.many import by_workers
    from ..studies.reproduce.page import make_page
    from ..studies.reproduce.pictures import picture_sets
    from ..studies.reproduce.protocol import PRIORS, SCALES
    from ..studies.reproduce.results import Results

    name = "quick" if quick else "full" if full else "usual"
    scale = SCALES[name]
    sets = picture_sets(data, scale.images)
    wanted = PRIORS | ({"flow": prior} if prior else {})
    priors, missing = _load(wanted, chosen)
    for model in missing:
        note(f"{model} is not part of this installation: left out", quiet)
    cells = list(plan(scale, sets, set(priors)))
    patterns = only or ["*"]
    if not any(cell.matches(patterns) for cell in cells):
        raise UsageError(
            f"--only {' '.join(patterns)}: nothing in this study is called so; its parts are "
            f"named like {cells[0].path}"
        )
    failed: dict[str, str] = {}
    if cluster is not None:
        todo = [cell for cell in cells if cell.matches(patterns)]
        with (
            on_cluster(cluster, quiet),
            Progress("asim2020", len(todo), unit="part", quiet=quiet) as bar,
        ):
            failed = by_workers(todo, sets, priors, out, scale.effort, device, progress=bar)
        for why in failed.values():
            complain(why)
    results = Results(out)
    progress = Progress("asim2020", len(cells), unit="part", quiet=quiet)
    try:
        with progress:
            for k, cell in enumerate(cells):
                progress(k, note=cell.path)
                given = (cell, sets[cell.set], priors, out, scale.effort, chosen)
                report = progress.part(k, k + 1, cell.path)
                found = run_cell(
                    *given,
                    compute=cell.matches(patterns) and cell.path not in failed,
                    progress=report,
                )
                if found is not None:  # else not asked for, and no earlier run has finished it
                    results.add(cell, found)
                if progress.done == k:  # nothing was computed
                    progress.skip(k + 1)
    except KeyboardInterrupt:
        note("what is finished is kept: the same command continues", quiet)
        raise

    summary = {
        "scale": name,
        "data": data or "packaged",
        "sets": {group: p.about for group, p in sets.items() if group in scale.sets},
        "priors": {role: wanted[role] for role in priors},
        "missing": missing,
        "failures": results.failures(),
    } | results.json()
    results.write_csv(out / "results.csv")
    code = 1 if failed else 0
    title = f"innverse reproduce asim2020 · {name} · {data or 'packaged pictures'}"
    page = write(out, summary, lambda: make_page(results, sets, missing, title, command_line()))
    if json:
        print_json(summary)
        return code
    about = {group: p.about for group, p in sets.items()}
    for experiment in ("compressed_sensing", "denoising", "inpainting"):
        if results.settings(experiment):
            table(results, experiment, about).print()
    print(page)
    return code


def _load(wanted: dict[str, str], device) -> tuple[dict, list[str]]:
    """({role: model}, names of those that are not shipped)."""
    from ..zoo import names

    priors, missing = {}, []
    for role, name in wanted.items():
        if role == "flow" or name in names() or Path(name).is_dir():
            priors[role] = load_model(name, device)
        else:
            missing.append(name)
    return priors, missing
