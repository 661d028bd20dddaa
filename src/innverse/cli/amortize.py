"""``innverse amortize``: learn p(parameters given measurement) from a file of simulations."""

from __future__ import annotations

from pathlib import Path

from .options import Json, Quiet


def amortize(
    config: Path,
    *,
    out: Path | None = None,
    seed: int | None = None,
    minutes: float | None = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Learn a posterior from simulations, check its calibration, and infer observations.

    innverse amortize config.toml
    innverse amortize config.toml --out runs/sir --minutes 5

    The file has the tables [data] (path, theta, x, names, low, high), [model] (density, summary,
    size), [train] (held_out, lr, batch_size, patience, max_epochs, minutes, seed), [check] (pairs,
    draws), [infer] (path, draws) and [out] (dir); only data.path is needed. Simulations are a CSV
    file with a header (theta and x name its columns) or a .npz file (theta and x name its arrays).

    The folder gets the posterior (load it with innverse.amortized.load), calibration.json and, for
    the observations of [infer], draws.npz.

    Parameters
    ----------
    config
        The TOML file.
    out
        Folder of the result; default runs/NAME.
    seed
        Seed of everything random.
    minutes
        Most minutes of training.

    Returns
    -------
    int
        The exit code.
    """
    from innverse.amortized.recipe import load_recipe, run_recipe

    overrides = {"train.seed": seed, "train.minutes": minutes}
    recipe = load_recipe(config, overrides)
    folder = out or Path(recipe.out.dir or Path("runs") / config.stem)

    from .options import check_writable, note, print_json, start

    check_writable(folder)
    start("cpu")
    summary = run_recipe(recipe, folder, progress=not quiet)
    if json:
        print_json(summary)
    else:
        print(folder)
        note(
            f"{summary['simulations']} simulations ({summary['excluded']} left out), held-out NLL "
            f"{summary['held_out_nll']:.3f}, calibration error "
            f"{100 * summary['calibration_error']:.2f} % on {summary['checked_pairs']} pairs",
            quiet,
        )
    return 0
