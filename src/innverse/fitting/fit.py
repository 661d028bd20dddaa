"""`fit`: from data to a trained flow, without a loop of one's own."""

from __future__ import annotations

import math
import numbers
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..bijections import initialize
from ..bijections.standardize import standardizes
from ..data import dequantize
from ..device import choose_device
from ..errors import ShapeError, UsageError
from ..nets import set_precision
from ..seeding import seeded, stream
from .rows import Loader, Rows
from .schedule import History, Schedule, schedule_of
from .table import as_rows, is_loader
from .training import Loss, Training, signature

_INITIAL = 2**22  # numbers from which data-dependent parameters are set
_MOST_HELD_OUT = 20_000  # rows; more would only take time


def fit(
    flow: nn.Module,
    x: Any,
    c: Any = None,
    *,
    held_out: float | int | Any = 0.1,
    batch_size: int | None = None,
    lr: float = Schedule.lr,
    patience: int = Schedule.patience,
    max_epochs: int = Schedule.max_epochs,
    minutes: float | None = None,
    weight_decay: float | None = None,
    average: float = Schedule.averaged,
    precision: str = "fp32",
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    resume: bool = True,
) -> History:
    """Train a flow by maximum likelihood, p(x) or p(x | c); it is ready to use afterwards.

    Scales of the data are learned first (`innverse.bijections.initialize`). Then AdamW goes
    through the rows until those held out improve no more; the flow is left with the average of
    the weights that was best on them. The caller's random numbers, threads and so on stay as they
    are. A VAE and flow matching, which bring a ``training_loss`` of their own, are trained by it.

    Args:
        flow: what `innverse.flows.build` makes, or any `Flow`; trained in place. A
            noise-conditional one is trained over its noise levels: x are clean images then.
        x: rows (N, *flow.shape): tensor, numpy array, DataFrame, list; or a DataLoader of batches
            x or (x, c). uint8 images (N, C, H, W) are dequantised anew at every step.
        c: conditions (N, k) of a conditional flow.
        held_out: a fraction or a number of rows that judge progress, or data of one's own, x or
            (x, c) (with a DataLoader they must be given, or its first batches serve).
        batch_size: rows of a step; by default 32 to 1024, so that an epoch has fifty steps or more.
        lr: learning rate until the fall at the end.
        patience: epochs without progress that end the training.
        max_epochs, minutes: its budget, whichever is used up first.
        weight_decay: fixed; by default .1, and another on trial near the end, see `Schedule`.
        average: epochs over which weights are averaged; 0 for none.
        precision: ``"bf16"`` lets the networks compute in bfloat16 while they train.
        device: where to train, and where the flow is afterwards: "auto", "cpu", "cuda"; by default
            where it is.
        seed: of the split, the order and the noise.
        progress: on stderr.
        checkpoint: a folder in which the training is saved twice a minute and at Ctrl-C; the same
            call continues there. With more ``max_epochs`` or ``minutes`` a finished one is
            lengthened.
        resume: False starts over in ``checkpoint``.

    Returns:
        what happened: `History`, with the loss per epoch in nats (negative log-likelihood).

    Raises:
        InputError, ShapeError: data that cannot be used; one line says why.
        UsageError: arguments that do not fit together, or a model without density (a GAN).
        InnverseError: the loss stays NaN or infinite.

    >>> import torch, innverse
    >>> flow = innverse.flows.build("realnvp", (2,), layers=2, width=16)
    >>> history = innverse.fit(flow, torch.randn(500, 2), max_epochs=3, progress=False)
    >>> history.epochs
    3
    """
    if not hasattr(flow, "log_prob") and not hasattr(flow, "training_loss"):
        raise UsageError(
            f"{type(flow).__name__} has neither a density nor a loss to minimise: fit trains flows "
            "and VAEs (`innverse train` trains GANs)"
        )
    limits = {"patience": patience, "max_epochs": max_epochs, "minutes": minutes}
    steps = {"lr": lr, "batch_size": batch_size, "weight_decay": weight_decay, "averaged": average}
    schedule = schedule_of(**limits, **steps)
    if device is not None:
        flow.to(choose_device(str(device)))
    with seeded(seed):
        data, judges = _split(flow, x, c, held_out, schedule, seed)
        known = {
            "flow": getattr(flow, "name", None),
            "shape": list(getattr(flow, "shape", ())),
            "seed": seed,
        }
        _initialize(flow, data)
        set_precision(flow, precision)
        try:
            where = next(flow.parameters()).device
            training = Training(flow, _loss_of(flow), data, judges, schedule, seed, where)
            same = signature(judges, schedule, **known)
            return training.run(
                progress=progress, checkpoint=checkpoint, resume=resume, signature=same
            )
        finally:
            set_precision(flow, "fp32")


def _split(flow, x, c, held_out, schedule: Schedule, seed: int):
    """The batches to train on, and the rows to judge by."""
    own = not isinstance(held_out, numbers.Real) or isinstance(held_out, bool)
    if is_loader(x):
        if c is not None:
            raise UsageError("with a loader the conditions come in its batches: leave c out")
        data = Loader(x, seed)
        judges = _pair(flow, held_out) if own else data.first(1024)
        return data, judges
    rows = _pair(flow, (x, c))
    if own:
        return Rows(rows, schedule.batch_size, seed), _pair(flow, held_out)
    n = len(rows[0])
    whole = isinstance(held_out, numbers.Integral)
    if not held_out > 0 or (not whole and held_out >= 1):
        raise UsageError(
            f"held_out={held_out:g}: give a fraction between 0 and 1, a number of rows, or data"
        )
    share = min(max(int(held_out) if whole else round(held_out * n), 1), _MOST_HELD_OUT)
    if share >= n:
        raise UsageError(f"held_out={held_out:g}: of {n} rows none would be left to train on")
    order = torch.randperm(n, generator=stream(seed, 0, "held out"))
    judges = tuple(t[order[:share]] for t in rows)
    return Rows(tuple(t[order[share:]] for t in rows), schedule.batch_size, seed), judges


def _pair(flow, given) -> tuple[Tensor, ...]:
    """(x,) or (x, c) in the type of the flow, checked against its shape."""
    x, c = given if isinstance(given, (tuple, list)) and len(given) == 2 else (given, None)
    x = as_rows(x, "x")
    shape = tuple(flow.shape)
    if x.dim() == 1 and shape == (1,):
        x = x[:, None]
    fits = x.dim() == len(shape) + 1 and x.shape[1] == shape[0]
    if not fits:
        raise ShapeError(
            f"x must be (N, {', '.join(map(str, shape))}) for this flow, got {tuple(x.shape)}"
        )
    wide = standardizes(getattr(flow, "bijection", flow))  # it needs the digits of float64
    dtype = next(flow.parameters()).dtype
    if len(shape) == 1 or x.dtype != torch.uint8:
        x = x if wide and x.dtype == torch.float64 else x.to(dtype)
    if c is None:
        return (x,)
    c = as_rows(c, "c")
    c = c[:, None] if c.dim() == 1 else c
    if len(c) != len(x):
        raise ShapeError(f"x has {len(x)} rows but c has {len(c)}: give one condition per row")
    return x, c  # the flow standardises it, in float64


def _loss_of(flow) -> Loss:
    """(x[, c]) -> the loss of each row; what it draws comes from torch's global generator."""
    noise = getattr(flow, "noise_range", None)
    of_its_own = hasattr(flow, "training_loss")

    def loss(x: Tensor, *c: Tensor) -> Tensor:
        x = _dequantised(x)
        if noise is not None and not c:
            x, sigma = _noisy(x, *noise)
            c = (sigma,)
        if of_its_own:
            return flow.training_loss(x, *c).expand(len(x))
        return -flow.log_prob(x, *c)

    return loss


def _initialize(flow, data: Rows | Loader) -> None:
    """Set what depends on the data; what was set before stays."""
    if not hasattr(flow, "initialize_"):
        return
    count = max(_INITIAL // math.prod(flow.shape), 2)
    device = next(flow.parameters()).device
    x, *c = [t.to(device) for t in data.first(min(count, 20_000))]
    x = _dequantised(x)
    if getattr(flow, "noise_range", None) is not None and not c:
        x, *c = _noisy(x, *flow.noise_range)
    initialize(flow, x, *c)


def _dequantised(x: Tensor) -> Tensor:
    """Bytes to x = (v + u) / 256, u uniform."""
    if x.dtype != torch.uint8:
        return x
    return dequantize(x, noise=torch.rand(x.shape, device=x.device))


def _noisy(x: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """x + sigma e with sigma log-uniform in [low, high], and sigma (B,)."""
    u = torch.rand(len(x), dtype=x.dtype, device=x.device)
    sigma = (math.log(low) + u * math.log(high / low)).exp().clamp(low, high)
    e = torch.randn(x.shape, dtype=x.dtype, device=x.device)
    return x + sigma.view(-1, *[1] * (x.dim() - 1)) * e, sigma
