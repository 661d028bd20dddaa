"""What ``.plot()`` draws, by matplotlib, which is loaded here alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError, UsageError
from ..report.plots import curves, new_figure
from ..report.posteriors import pair_plot
from .history import best_epoch, judged
from .reconstruction import SHOWN, parts, shown

if TYPE_CHECKING:
    from ..fitting.schedule import History
    from ..solvers.posterior.modes.joint import JointPosterior
    from ..solvers.reconstruction import Reconstruction
    from ..train.outcome import Outcome

_CELL = 2.6  # inches of a picture


def of_reconstruction(result: Reconstruction, items: int = SHOWN) -> Any:
    """A row for each of the first ``items``: measured, reconstructed, how sure."""
    if not items > 0 or not len(result.x):
        raise UsageError(f"items={items} of {len(result.x)}: there is nothing to draw")
    rows = [list(parts(result, k)) for k in range(min(items, len(result.x)))]
    top = 0.0 if result.std is None else float(result.std[: len(rows)].nan_to_num(0.0).max())
    n = len(rows[0])
    figure = new_figure((_CELL * n + 0.6, (_CELL + 0.3) * len(rows)))
    for axes, (name, image) in zip(
        figure.subplots(len(rows), n, squeeze=False).flat,
        [part for row in rows for part in row],
        strict=True,
    ):
        _, picture, said = shown(name, image, top)
        if name == "standard deviation":
            drawing = axes.imshow(picture.values.numpy(), cmap="viridis", vmin=0, vmax=top or 1.0)
            figure.colorbar(drawing, ax=axes, shrink=0.8)
        else:
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set(title=name if not said else f"{name}\n{said}", xticks=[], yticks=[])
    for k, row in enumerate(figure.axes[: n * len(rows) : n]):
        row.set_ylabel(("" if len(rows) == 1 else f"item {k}: ") + _ended(result, k))
    return figure


def of_history(history: History) -> Any:
    """Both losses per epoch, the best one marked."""
    if not history.held_out:
        raise UsageError("this training has no epoch behind it: there is nothing to draw")
    epochs = list(range(1, len(history.held_out) + 1))
    series = {"held out": (epochs, history.held_out), "training": (epochs, history.training)}
    figure = curves(series, "epoch", "loss")
    if best := best_epoch(history):
        figure.axes[0].plot([best], [history.best], "o", color="#2f6fb3")
    return figure


def of_outcome(found: Outcome, rows: Sequence[dict[str, Any]]) -> Any:
    """What was held out, step by step."""
    series = judged(found, rows)
    if not series:
        raise UsageError("nothing was judged in this run yet: there is nothing to draw")
    return curves(series, "step", next(iter(series)))


def of_posterior(posterior: Any, x: Any, draws: int, truth: Any) -> Any:
    """A pair plot of draws with seed 0; ``truth`` (D,) is marked."""
    names = posterior.names
    if truth is not None:
        truth = torch.as_tensor(truth, dtype=torch.float64).flatten()
        if len(truth) != len(names):
            raise InputError(f"truth has {len(truth)} numbers, the parameters are {len(names)}")
    generator = torch.Generator().manual_seed(0)
    found = posterior.sample((draws,), x=x, generator=generator)
    return pair_plot({"posterior": found.cpu()}, names, truth)


def of_joint(found: JointPosterior, item: int = 0) -> Any:
    """A pair plot of noise level and parameter of one item."""
    kinds = {"noise": found.noise, "parameter": found.parameter}
    known = {name: t[:, item] for name, t in kinds.items() if t is not None}
    return pair_plot({"posterior": torch.stack(list(known.values()), 1)}, list(known))


def _ended(result: Reconstruction, k: int) -> str:
    return "converged" if bool(result.converged[k]) else "not converged"
