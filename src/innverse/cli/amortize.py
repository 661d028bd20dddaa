"""``innverse amortize``: learn p(parameters given observation) from a file of simulations."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import UsageError
from .options import Cluster, Json, Quiet


def amortize(
    config: Path,
    *,
    out: Path | None = None,
    seed: int | None = None,
    minutes: float | None = None,
    resume: Annotated[bool, Parameter(negative="--no-resume")] = True,
    cluster: Cluster = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Learn a posterior from simulations, check and repair its calibration, infer observations.

    innverse amortize config.toml
    innverse amortize config.toml --out runs/sir --minutes 5
    innverse amortize config.toml --cluster local:4

    The file has the tables [data] (path, theta, x, names, low, high; or simulator, budget), [model]
    (density, summary, size), [train] (held_out, lr, batch_size, patience, max_epochs, minutes,
    seed), [check] (pairs, draws), [infer] (path, draws) and [out] (dir); only data.path or
    data.simulator is needed. Simulations are a CSV or parquet file (theta and x name its columns),
    a .npz file (theta and x name its arrays), or made by a built-in simulator.

    The folder gets the posterior (load it with innverse.amortized.load), report.html,
    calibration.json, recalibration.json and, for the observations of [infer], draws.npz. Ctrl-C
    saves the training; the same command continues it.

    Parameters
    ----------
    config
        The TOML file.
    out
        Folder of the result. [default: runs/ and the name of the TOML file]
    seed
        Seed of everything random.
    minutes
        Most minutes of training. [default: as long as it helps]
    resume
        Continue the training in the folder if there is one; --no-resume starts over.

    Returns
    -------
    int
        The exit code.
    """
    from ..amortized.recipe import load_recipe

    overrides = {"train.seed": seed, "train.minutes": minutes}
    recipe = load_recipe(config, overrides)
    if cluster is not None and recipe.data.simulator is None:
        raise UsageError("--cluster shares out the simulations, but [data] names a file of them")
    folder = out or Path(recipe.out.dir or Path("runs") / config.stem)

    from ..amortized.run import run_recipe
    from ..data.lock import only_writer
    from ..metrics.calibration import ENOUGH
    from ..studies.posteriors import write_page
    from .options import check_writable, note, on_cluster, print_json, same_command, start

    check_writable(folder)
    start("cpu")
    try:
        with on_cluster(cluster, quiet), only_writer(folder):
            page = write_page if find_spec("matplotlib") else None
            summary = run_recipe(recipe, folder, progress=not quiet, resume=resume, page=page)
    except KeyboardInterrupt:
        note(f"continue with:\n  {same_command()}", quiet)
        raise
    if json:
        print_json(summary)
    else:
        print(folder)
        line = (
            f"{summary['simulations']} simulations ({summary['excluded']} left out), held-out NLL "
            f"{summary['held_out_nll']:.3f}"
        )
        if summary["checked_pairs"]:
            chance = 50 / summary["checked_pairs"] ** 0.5
            before, after = (100 * summary[k]["calibration_error"] for k in ("before", "after"))
            line += (
                f", calibration error {before:.2f} % and after repair {after:.2f} % on "
                f"{summary['checked_pairs']} pairs (± {chance:.1f} % by chance)"
            )
            if summary["repair_pairs"] < ENOUGH:
                line += (
                    f"; the repair was learned from {summary['repair_pairs']} pairs and may be worse "
                    f"than none: set [check] pairs to {2 * ENOUGH} or more"
                )
        note(line, quiet)
    return 0
