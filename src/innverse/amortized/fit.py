"""`fit`: from simulations, or a simulator and its prior, to a posterior; no tuning needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..device import choose_device
from ..errors import ShapeError, UsageError
from ..fitting.schedule import schedule_of
from ..fitting.training import Training, signature
from ..models.registry import fits
from ..progress import Progress
from ..seeding import seeded
from .checks import (
    as_pairs,
    as_rows,
    check_inside,
    check_names,
    check_pairs,
    check_seed,
    leave_out_invalid,
)
from .estimator import Estimator
from .novelty import TrainingRange
from .parameters import ParameterTransform
from .posterior import Posterior
from .regions import Box, Regions
from .simulate import SIMULATIONS, draw_prior, flattened, simulate
from .size import choose_size, with_overrides
from .supports import as_bounds, ask_prior, region_of

_MOST_HELD_OUT = 20_000  # more would only take time


def fit(
    theta=None,
    x=None,
    *,
    simulator: Callable | None = None,
    prior: Any = None,
    budget: int | None = None,
    vectorized: bool = True,
    bounds=None,
    names: Sequence[str] | None = None,
    density: str = "nsf",
    summary: str | nn.Module = "auto",
    size: dict[str, int] | None = None,
    held_out: float = 0.1,
    device: str | torch.device = "cpu",
    seed: int = 0,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    resume: bool = True,
    **schedule: Any,
) -> Posterior:
    """Learn p(theta | x) from simulated pairs: neural posterior estimation with a conditional INN.

    Minimises the mean of -log q(theta_i | x_i) (Papamakarios & Murray 2016, arXiv 1605.06376;
    Ardizzone et al. 2019, arXiv 1907.02392). Either the pairs are given, or a ``simulator`` with a
    ``prior`` and a ``budget``.

    Args:
        theta, x: parameters (N, D) drawn from the prior, and observations (N, ...); arrays, tensors,
            tables or lists. Draws of the posterior have the type of theta: float64 keeps all digits
            of float64, whole numbers and lists.
        simulator: theta (B, D) -> x (B, ...), or one at a time unless ``vectorized``.
        prior: an object with ``sample((n,))``; where it has density says its ``bounds``, or its
            ``support`` (see `region_of`), and ``log_prob`` is asked whether that is all. Draws of
            matrices are flattened row by row.
        budget: number of simulations to run.
        bounds: (low, high), numbers or vectors, None where there is none; over the prior's. The
            ends belong to it.
        names: of the parameters, for messages and files.
        density: ``"nsf"``, ``"realnvp"``, ``"mdn"`` or ``"flow_matching"``, see `build_density`.
        summary: the network before the flow: ``"none"``, ``"mlp"``, ``"set"`` (DeepSets) or
            ``"set_transformer"`` for (N, members, d), ``"series"`` for (N, C, T), ``"image"`` for
            (N, C, H, W), a module of one's own, or ``"auto"`` (vectors: mlp; four axes: image).
        size: any of layers, width, depth, bins, components, features, summary_width instead of
            what is chosen from N and D.
        held_out: fraction of the pairs on which progress is judged (at most 20000 of them).
        device: where the networks are trained: "cpu", "cuda", "auto"; the posterior computes on the
            CPU, whatever it was.
        seed: of the networks, the split and the batches.
        progress: on stderr.
        checkpoint: a folder in which the training is saved twice a minute and at Ctrl-C; the same
            call continues there (on the same data: a simulator has to repeat itself for a seed),
            and is done at once if the training was; with more ``max_epochs`` or ``minutes`` it is
            lengthened.
        resume: False starts over in ``checkpoint``.
        schedule: ``lr``, ``batch_size``, ``patience``, ``max_epochs``, ``minutes`` ..., see
            `Schedule`.

    Raises:
        UsageError: arguments that do not fit together.
        InputError, ShapeError: simulations that cannot be used; one line says why.

    Example:
        >>> theta = torch.rand(200, 1)
        >>> x = theta + 0.1 * torch.randn(200, 1)
        >>> posterior = fit(theta, x, max_epochs=1, progress=False)
        >>> posterior.sample((5,), x=x[0]).shape
        torch.Size([5, 1])
    """
    check_seed(seed)
    if not 0 < held_out < 1:
        raise UsageError(f"held_out={held_out:g}: give a fraction between 0 and 1")
    limits = schedule_of(**schedule)
    where = choose_device(str(device))
    with seeded(seed):
        if simulator is not None:
            records = None if checkpoint is None else Path(checkpoint) / SIMULATIONS
            given = (theta, x, simulator, prior, budget, vectorized)
            theta, x = _simulated(*given, records, progress)
        elif theta is None or x is None:
            raise UsageError("fit needs theta and x, or a simulator with a prior and a budget")
        elif budget is not None:
            raise UsageError("budget goes with a simulator: leave it out, or pass simulator=")
        pairs = checked_pairs(theta, x, prior, bounds, names)
        theta, x, region, n = pairs.theta, pairs.x, pairs.region, len(pairs.theta)
        shape = tuple(x.shape[1:])
        summary = _choose_summary(summary, shape)
        size = with_overrides(choose_size(n, region.free), size)
        transform = ParameterTransform(region, dtype=theta.dtype)
        estimator = Estimator(transform, shape, density, summary, size)

        order = torch.randperm(n)
        split = min(max(round(n * held_out), 10), _MOST_HELD_OUT)
        test, rows = order[:split], order[split:]
        estimator.learn_scales(theta[rows], x[rows])
        training_range = TrainingRange(int(torch.Size(shape).numel()))
        training_range.learn(_in_chunks(estimator.standardize, x[rows]))
        # what the network sees never changes: it is computed once
        z = _in_chunks(estimator.standardize, x)
        u, log_det = estimator.transform(theta)

        def loss(u: Tensor, z: Tensor, log_det: Tensor) -> Tensor:
            value = estimator.density.loss(u, estimator.summary(z))
            return value - log_det if estimator.density.by_likelihood else value

        config = {"density": density, "summary": summary, "size": size}
        learned, judged = ((u[some], z[some], log_det[some]) for some in (rows, test))
        estimator.to(where)
        training = Training(estimator, loss, learned, judged, limits, seed, where)
        named = summary if isinstance(summary, str) else type(summary).__name__
        known = config | {"summary": named, "held_out": held_out, "seed": seed}
        history = training.run(
            progress=progress,
            checkpoint=checkpoint,
            resume=resume,
            signature=signature((theta, x), limits, **known) if checkpoint is not None else None,
        )
        estimator.cpu()
    counts = n, pairs.excluded
    return Posterior(estimator, training_range, pairs.names, shape, config, history, *counts)


@dataclass(frozen=True)
class Pairs:
    """Simulations that can be learned from: theta (N, D) within ``region``, and x (N, ...)."""

    theta: Tensor
    x: Tensor
    region: Regions
    names: list[str]
    excluded: int


def checked_pairs(theta, x, prior, bounds, names: Sequence[str] | None) -> Pairs:
    """Pairs as they are given, checked; parameters lie within ``bounds``, else where the prior is.

    Raises:
        InputError, ShapeError, UsageError: one line that says what is wrong with them.
    """
    theta, x = as_pairs(flattened(theta, prior), x)
    theta, x, excluded = leave_out_invalid(theta, x)
    d = theta.shape[1]
    names = check_names(names, d)
    region = region_of(prior, d) if bounds is None else Regions([Box(*as_bounds(bounds, d))])
    region = region.widened(theta.dtype)
    check_pairs(theta, x, names, region)
    check_inside(theta, region, names)
    ask_prior(prior, region, theta)
    return Pairs(theta, x, region, names, excluded)


def _simulated(
    theta, x, simulator, prior, budget, vectorized, records, progress
) -> tuple[Tensor, Tensor]:
    if x is not None:
        raise UsageError("give x or a simulator, not both")
    if theta is None:
        if prior is None or budget is None:
            raise UsageError("a simulator needs a prior and a budget (or theta to simulate at)")
        if not (fits(budget, int) and budget >= 1):
            raise UsageError(f"budget={budget!r}: give the number of simulations to run")
        theta = draw_prior(prior, budget)
    else:
        theta = as_rows(theta, "theta")
    with Progress("simulating", len(theta), unit="simulation", quiet=not progress) as bar:
        shape = torch.Size(getattr(prior, "event_shape", theta.shape[1:]))
        matrices = len(shape) > 1 and shape.numel() == theta.shape[1]
        given = theta.unflatten(1, shape) if matrices else theta
        found = simulate(simulator, given, vectorized=vectorized, report=bar, records=records)
        return theta, found


def _choose_summary(summary: str | nn.Module, shape: tuple[int, ...]) -> str | nn.Module:
    if summary != "auto":
        return summary
    if len(shape) == 2:
        raise ShapeError(
            f"x of shape (N, {shape[0]}, {shape[1]}) may be sets or series: pass summary='set' "
            "for (N, members, d) or summary='series' for (N, channels, time)"
        )
    if len(shape) == 3:
        return "image"
    if len(shape) == 1:
        return "mlp"
    raise ShapeError(f"x with {len(shape) + 1} axes: flatten it, or pass a summary of your own")


def _in_chunks(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([function(part) for part in x.split(65_536)])
