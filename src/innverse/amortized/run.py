"""A whole amortised inference: learn, check, repair, infer, and write all of it into one folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import simulators
from ..data.atomic import atomic_write, write_json
from ..data.columns import read_columns
from ..errors import InputError
from ..fitting import History
from ..progress import Progress, Report
from ..seeding import stream
from .assess import Assessment, assess
from .checks import as_observations, as_pairs, leave_out_invalid
from .fit import fit
from .posterior import Posterior
from .recipe import Recipe, Simulations
from .simulate import SIMULATIONS
from .simulate import pairs as simulated_pairs

_FEWEST_CHECKED = 40


@dataclass
class _Pairs:
    """Pairs to learn from and pairs to check on, and what else is known of where they come from."""

    theta: Tensor
    x: Tensor
    check: tuple[Tensor, Tensor]
    bounds: Any
    names: list[str] | None
    excluded: int
    task: simulators.Simulator | None = None


def run_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    progress: bool = True,
    resume: bool = True,
    page: Callable | None = None,
) -> dict[str, Any]:
    """Do what the file says; returns the summary that ``calibration.json`` holds too.

    The folder gets the posterior, ``calibration.json``, ``recalibration.json`` (the repair),
    ``draws.npz`` of the observations and, by ``page`` (`innverse.studies.posteriors.write_page`),
    ``report.html``. An interrupted training continues from its ``checkpoint``; one that was complete
    is not repeated.
    """
    seen = None
    if recipe.infer.path is not None:  # before the training: a wrong path should not waste it
        seen, _ = read_columns(recipe.infer.path, recipe.data.x, "x")
    name, path = recipe.data.simulator, recipe.data.path
    if path is not None:
        pairs = _from_file(path, recipe)
    else:
        title = f"simulating {name}"
        with Progress(title, recipe.data.budget, unit="simulation", quiet=not progress) as bar:
            pairs = _simulated(name or "", recipe, folder / SIMULATIONS, bar)
    if seen is not None:
        seen = as_observations(seen, tuple(pairs.x.shape[1:]))
        if not len(seen):
            raise InputError(f"{recipe.infer.path} holds no observations: leave [infer] out")
    posterior = fit(
        pairs.theta,
        pairs.x,
        bounds=pairs.bounds,
        names=pairs.names,
        **recipe.model.model_dump(),
        **recipe.train.model_dump(),
        progress=progress,
        checkpoint=folder / "checkpoint",
        resume=resume,
    )
    posterior.save(folder)
    history = posterior.history or History()
    summary: dict[str, Any] = {
        "simulations": posterior.n_simulations,
        "excluded": pairs.excluded,
        "names": posterior.names,
        "held_out_nll": history.best,
        "epochs": history.epochs,
        "seconds": history.seconds,
        "ended": history.ended,
        "checked_pairs": 0,
    }
    generator = torch.Generator().manual_seed(recipe.train.seed)
    assessment = None
    if len(pairs.check[0]) >= _FEWEST_CHECKED:
        with Progress(f"checking on {len(pairs.check[0])} pairs", quiet=not progress):
            assessment = _assessed(posterior, pairs, recipe.check.draws, generator)
        summary |= assessment.summary()
        write_json(folder / "recalibration.json", assessment.repair.to_json())
    draws = None
    if seen is not None:
        with Progress(f"drawing for {len(seen)} observations", quiet=not progress):
            draws = posterior.sample_batched((recipe.infer.draws,), seen, generator=generator)
        summary["mean"], summary["std"] = draws.mean(0), draws.std(0)
        summary["rank"] = posterior.rank(seen)
        arrays: dict[str, Any] = {"draws": draws.numpy(), "names": np.array(posterior.names)}
        if assessment is not None:
            arrays["repaired"] = assessment.repair.samples(draws).numpy()
        atomic_write(folder / "draws.npz", lambda file: np.savez(file, **arrays))
    write_json(folder / "calibration.json", summary)
    if page is not None:
        title = f"p(parameters given observation): {folder.name}"
        with Progress("writing the report", quiet=not progress):
            page(folder / "report.html", posterior, assessment, title=title, seen=seen, draws=draws)
    return summary


def _from_file(path: str, recipe: Recipe) -> _Pairs:
    data = recipe.data
    theta, names = read_columns(path, data.theta, "theta")
    x, _ = read_columns(path, data.x, "x")
    theta, x = as_pairs(theta, x)
    theta, x, excluded = leave_out_invalid(theta, x)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(recipe.train.seed))
    kept = min(recipe.check.pairs, len(x) // 10)
    test, rows = order[:kept], order[kept:]
    check = theta[test], x[test]
    return _Pairs(theta[rows], x[rows], check, _bounds(data), data.names or names, excluded)


def _simulated(name: str, recipe: Recipe, records: Path, report: Report) -> _Pairs:
    data, seed = recipe.data, recipe.train.seed
    task = simulators.get(name)
    theta, x = simulated_pairs(name, data.budget, seed, records=records, report=report)
    check = task.pairs(recipe.check.pairs, stream(seed, 0, "check"))
    bounds = _bounds(data) or task.bounds
    return _Pairs(theta, x, check, bounds, data.names or task.names, 0, task)


def _bounds(data: Simulations):
    return None if data.low is None and data.high is None else (data.low, data.high)


def _assessed(posterior: Posterior, pairs: _Pairs, draws: int, generator) -> Assessment:
    task = pairs.task
    log_joint = task.log_joint if task is not None and task.has_likelihood else None
    with warnings.catch_warnings():  # the summary and the page say what a repair from few is worth
        warnings.filterwarnings("ignore", "a repair learned from")
        return assess(
            posterior,
            *pairs.check,
            simulator=task,
            log_joint=log_joint,
            draws=draws,
            generator=generator,
        )
