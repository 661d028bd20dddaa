"""The chains of a problem by the workers of a cluster: two at a time, which adapt by themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ...clusters import Chunk, Failure, run
from ...models.travel import Travelling
from ...progress import Report
from ...seeding import stream_seed
from ..problem import Problem
from .sampled import Sampled

PAIR = 2  # chains of a chunk, whatever the cluster


def by_workers(
    sample: Callable[[Mapping[str, Any], Problem, Any], Sampled],
    options: Mapping[str, Any],
    problem: Problem,
    prior: Any,
) -> Sampled:
    """The chains that ``options`` ask for, by calls of ``sample(options, problem, prior)`` for two (the
    last for three, of an odd number), all from the same start.

    With a ``checkpoint`` its folder keeps the pairs that are finished.
    """
    chains, place = options["chains"], options["checkpoint"]
    sizes = [PAIR] * (chains // PAIR)
    sizes[-1] += chains % PAIR
    each = -(-options["draws"] // chains)
    sent = [
        {
            "chains": size,
            "draws": each * size,
            "seed": stream_seed(options["seed"], k, "chains") >> 1,
        }
        for k, size in enumerate(sizes)
    ]
    chunks = [
        Chunk(f"chains {PAIR * k} and {PAIR * k + 1}", lambda one=one: one, one["chains"])
        for k, one in enumerate(sent)
    ]
    shared = {
        "sample": sample,
        "options": {**options, "checkpoint": None},
        "problem": dataclasses.replace(problem, progress=_silent, prior=None),
        "prior": Travelling(prior),
    }
    records = None if place is None else Path(place) / "chains"
    found = dict(run(_pair, chunks, shared, records=records, progress=problem.progress))
    for one in found.values():
        if isinstance(one, Failure):
            raise one.error
    like = problem.y
    return Sampled.joined([_received(found[k], like) for k in range(len(chunks))])


def _pair(shared: dict[str, Any], sent: dict[str, Any], progress: Report) -> dict[str, Any]:
    prior = shared["prior"]
    problem = dataclasses.replace(shared["problem"], progress=progress, prior=prior)
    return vars(shared["sample"](shared["options"] | sent, problem, prior))


def _received(found: dict[str, Any], like: torch.Tensor) -> Sampled:
    """On the device on which it was asked; evaluations are counted on the CPU."""
    return Sampled(
        **{
            name: value.to(like.device)
            if isinstance(value, torch.Tensor) and name != "evaluations"
            else value
            for name, value in found.items()
        }
    )


def _silent(done: float, total: float, note: str = "") -> None:
    """The progress of a problem that travels."""
