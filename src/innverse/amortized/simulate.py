"""Running a simulator: a user's on draws of a user's prior, here or by the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..clusters import Chunk, Failure, active, run
from ..data import simulators
from ..errors import InputError, ShapeError, UsageError
from ..progress import Report
from ..seeding import seeded, stream, stream_seed
from .checks import as_rows

SIMULATIONS = "simulations"  # the folder of those that workers have finished
_CHUNK = 4096
# Of a cluster, whatever its size: a simulator of users may take seconds a time, ours microseconds
_ON_CLUSTER, _OF_OURS = 256, 1000


def draw_prior(prior, n: int) -> Tensor:
    """``n`` draws (n, D) of anything with ``sample((n,))``.

    Raises:
        UsageError: no such method.
        ShapeError: draws of another shape.
    """
    if not callable(getattr(prior, "sample", None)):
        raise UsageError("prior: give an object with sample((n,)), such as torch's distributions")
    theta = as_rows(flattened(prior.sample((n,)), prior), "the prior's sample").detach()
    if len(theta) != n or theta.dim() != 2:
        raise ShapeError(f"prior.sample(({n},)) must be ({n}, D), not {tuple(theta.shape)}")
    return theta


def flattened(theta, prior):
    """theta (N, D) of draws (N, *event_shape) of a prior of matrices, row by row."""
    shape = tuple(getattr(prior, "event_shape", ()))
    if len(shape) > 1 and tuple(getattr(theta, "shape", ())[1:]) == shape:
        return theta.reshape(len(theta), -1)
    return theta


def simulate(
    simulator: Callable,
    theta: Tensor,
    *,
    vectorized: bool = True,
    report: Callable[..., None] = lambda *_: None,
    records: str | Path | None = None,
) -> Tensor:
    """x (N, ...) for theta (N, D), in chunks, with ``report(done, total)`` in between.

    On a cluster chunks have global generators of their own, whose seeds are drawn from torch's.

    Args:
        simulator: theta (B, D) -> x (B, ...), or, unless ``vectorized``, (D,) -> one x.
        records: folder for what workers have finished.

    Raises:
        InputError: the simulator raised; the message names the error and the parameters.
        ShapeError: the wrong number of rows, or shapes that differ between calls.
    """
    if active() is not None:
        seed = int(torch.randint(2**62, ()))
        # pickle takes a view with all it is a view of
        parts = [part.clone() for part in theta.split(_ON_CLUSTER)]
        sent = [
            {"theta": part, "seed": stream_seed(seed, k, "simulations")}
            for k, part in enumerate(parts)
        ]
        sizes = [len(part) for part in parts]
        answers = _in_chunks(_theirs, sent, sizes, (simulator, vectorized), records, report)
        return as_rows(torch.cat(answers), "x")
    size = _CHUNK if vectorized else 1
    found: list[Tensor] = []
    for start in range(0, len(theta), size):
        part = theta[start : start + size]
        x = _call(simulator, part if vectorized else part[0], start, vectorized)
        x = x if vectorized else x.unsqueeze(0)
        if vectorized and len(x) != len(part):
            raise ShapeError(
                f"the simulator returned {tuple(x.shape)} for theta {tuple(part.shape)}: return "
                "one row per theta, or pass vectorized=False for one theta at a time"
            )
        if found and x.shape[1:] != found[0].shape[1:]:
            raise ShapeError(
                f"the simulator returned {tuple(x.shape[1:])} at simulation {start} and "
                f"{tuple(found[0].shape[1:])} before: every x must have the same shape"
            )
        found.append(x)
        report(min(start + size, len(theta)), len(theta))
    return as_rows(torch.cat(found), "x")


def pairs(
    name: str,
    n: int,
    seed: int,
    *,
    records: str | Path | None = None,
    report: Report | None = None,
) -> tuple[Tensor, Tensor]:
    """``n`` pairs (theta, x) of the built-in simulator ``name``, in chunks with seeds of their own."""
    sizes = [min(_OF_OURS, n - first) for first in range(0, n, _OF_OURS)]
    sent = [{"n": size, "seed": seed, "k": k} for k, size in enumerate(sizes)]
    found = _in_chunks(_ours, sent, sizes, name, records if active() else None, report)
    theta, x = zip(*found, strict=True)
    return torch.cat(theta), torch.cat(x)


def _in_chunks(
    do: Callable, sent: list, sizes: list[int], shared: Any, records: Any, report: Any
) -> list[Any]:
    """The results of all chunks in their order; the first error once the others are done."""
    ends = torch.tensor(sizes).cumsum(0).tolist()
    chunks = [
        Chunk(f"simulations {end - size} to {end - 1}", lambda one=one: one, size)
        for one, size, end in zip(sent, sizes, ends, strict=True)
    ]
    found = dict(run(do, chunks, shared, records=records, progress=report))
    for one in found.values():
        if isinstance(one, Failure):
            raise one.error
    return [found[k] for k in range(len(sent))]


def _theirs(shared: tuple[Callable, bool], sent: dict[str, Any], progress: Report) -> Tensor:
    simulator, vectorized = shared
    with seeded(sent["seed"]):
        return simulate(simulator, sent["theta"], vectorized=vectorized, report=progress)


def _ours(name: str, sent: dict[str, Any], progress: Report) -> tuple[Tensor, Tensor]:
    generator = stream(sent["seed"], sent["k"], "simulations")
    return simulators.get(name).pairs(sent["n"], generator)


def _call(simulator: Callable, theta: Tensor, start: int, vectorized: bool) -> Tensor:
    try:
        x = simulator(theta)
    except Exception as error:
        where = f"theta {tuple(theta.shape)}" if vectorized else f"theta = {_numbers(theta)}"
        hint = " (pass vectorized=False if it takes one theta at a time)" if vectorized else ""
        text = str(error).splitlines()[0] if str(error) else "no message"
        raise InputError(
            f"the simulator raised {type(error).__name__} at simulation {start}, {where}: "
            f"{text}{hint}"
        ) from error
    try:
        x = torch.as_tensor(x).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"the simulator returned {type(x).__name__}, not an array of numbers"
        ) from None
    x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    if vectorized and x.dim() == 0:
        raise ShapeError(
            "the simulator returned a single number: return one row per theta, or pass "
            "vectorized=False for one theta at a time"
        )
    return x


def _numbers(theta: Tensor) -> str:
    shown = ", ".join(f"{v:.6g}" for v in theta[:8].tolist())
    return f"[{shown}{', ...' if len(theta) > 8 else ''}]"
