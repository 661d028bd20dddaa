"""One observation only: simulate where its posterior is, in rounds of truncated proposals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, UsageError
from ..progress import Progress
from ..seeding import seeded
from .checks import as_floats, check_seed
from .fit import fit
from .posterior import Posterior
from .simulate import SIMULATIONS, draw_prior, simulate
from .truncated import TruncatedPrior


def fit_sequential(
    simulator: Callable,
    prior: Any,
    x,
    *,
    budget: int,
    rounds: int = 4,
    epsilon: float = 1e-4,
    vectorized: bool = True,
    names: Sequence[str] | None = None,
    seed: int = 0,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    **options,
) -> Posterior:
    """Learn p(theta | x) at one observation x (TSNPE, Deistler et al. 2022, arXiv 2210.04815).

    Each round simulates an equal share of ``budget`` at draws of the prior that the posterior of the
    round before does not rule out (see `TruncatedPrior`), and trains anew on all simulations so far,
    so that scales follow as the region shrinks. Where the posterior is much narrower than the
    prior, this needs far fewer simulations than `fit`; the result holds at ``x`` only, which becomes
    its default observation.

    Args:
        simulator, prior, vectorized, names, seed, progress: as in `fit`.
        x: the observation, (*x_shape) or (1, *x_shape).
        budget: simulations of all rounds together.
        rounds: 1 is `fit` itself.
        epsilon: probability that each round's region leaves out.
        checkpoint: a folder in which every round's training is saved, see `fit`.
        options: of `fit`, such as ``density``, ``size``, ``max_epochs``.

    Raises:
        UsageError: rounds or budget that do not fit together.
        InputError, ShapeError: as `fit`; or x is not one valid observation.

    Example:
        >>> from innverse.data import simulators
        >>> task = simulators.get("two_moons")
        >>> options = {"budget": 200, "rounds": 2, "max_epochs": 1, "progress": False}
        >>> posterior = fit_sequential(task, task.prior, [0.0, 0.0], **options)
        >>> posterior.sample((5,)).shape, [r["simulations"] for r in posterior.config["rounds"]]
        (torch.Size([5, 2]), [100, 100])
    """
    check_seed(seed)
    if rounds < 1 or budget < rounds:
        raise UsageError(f"rounds={rounds}, budget={budget}: give each round some simulations")
    if not 0 < epsilon < 0.5:
        raise UsageError(f"epsilon={epsilon:g}: give a small probability, such as 1e-4")
    x = as_floats(x, "x")
    if not bool(x.isfinite().all()):
        raise InputError("x contains NaN or infinite values: no posterior can be learned for it")
    record: list[dict] = []
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    with seeded(seed):
        region = TruncatedPrior(prior, x, epsilon)
        for k in range(rounds):
            n = budget * (k + 1) // rounds - budget * k // rounds
            theta = draw_prior(region, n)
            place = None if checkpoint is None else Path(checkpoint) / f"round-{k + 1}"
            title = f"simulating, round {k + 1} of {rounds}"
            with Progress(title, n, unit="simulation", quiet=not progress) as bar:
                data = simulate(
                    simulator, theta, vectorized=vectorized, report=bar,
                    records=None if place is None else place / SIMULATIONS,
                )  # fmt: skip
            pairs.append((theta, data))
            record.append({"simulations": n, "share_of_prior": region.acceptance})
            posterior = fit(
                *(torch.cat(parts) for parts in zip(*pairs)),
                prior=prior,
                names=names,
                seed=seed,
                progress=progress,
                checkpoint=place,
                **options,
            )
            if k + 1 < rounds:
                region.cut(posterior)
    posterior.config["rounds"] = record
    return posterior.set_default_x(x)
