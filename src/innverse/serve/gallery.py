"""Pictures out of nothing, and between two pictures: what the shipped flows can draw."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..flows.attributes import SIGMA
from ..progress import Report
from ..report import grid
from ..zoo import load
from .jobs import Product
from .repair import file_of, png
from .uploads import Uploads

MODELS = "faces64", "digits"
Model = Literal["faces64", "digits"]


class Samples(BaseModel):
    """Draws of a model; a ``temperature`` below 1 makes them more typical."""

    model_config = ConfigDict(extra="forbid")

    model: Model = "faces64"
    n: int = Field(16, ge=1, le=36)
    temperature: float = Field(0.7, ge=0, le=1.5)
    seed: int = Field(0, ge=0, lt=2**31)


class Between(BaseModel):
    """Pictures on the arc between the exact latents of two uploads, or of two draws."""

    model_config = ConfigDict(extra="forbid")

    model: Model = "faces64"
    first: str | None = Field(None, max_length=64)
    second: str | None = Field(None, max_length=64)
    steps: int = Field(8, ge=3, le=16)
    seed: int = Field(0, ge=0, lt=2**31)


@lru_cache
def flow_named(name: str):
    return load(name)


def samples(wish: Samples) -> Callable[[Report], Product]:
    def work(report: Report) -> Product:
        flow = flow_named(wish.model)
        g = torch.Generator().manual_seed(wish.seed)
        at = (flow.noise_range[0],) if flow.noise_range else ()
        x = flow.sample(wish.n, *at, temperature=wish.temperature, generator=g)
        report(1, 1, "")
        side = round(wish.n**0.5)
        words = (
            f"innverse sample {wish.model} --n {wish.n} --temperature {wish.temperature:g} "
            f"--seed {wish.seed}"
        )
        return Product({"command": words}, {"samples.png": file_of(grid(x, -(-wish.n // side)))})

    return work


def between(wish: Between, uploads: Uploads) -> Callable[[Report], Product]:
    given = [uploads.get(id) if id else None for id in (wish.first, wish.second)]

    def work(report: Report) -> Product:
        flow = flow_named(wish.model)
        g = torch.Generator().manual_seed(wish.seed)
        level = SIGMA if flow.noise_range else None
        at = () if level is None else (flow.noise_range[0],)
        drawn = flow.sample(2, *at, temperature=0.7, generator=g)
        a, b = (
            drawn[k] if upload is None else _fit(upload.image, flow.shape)
            for k, upload in enumerate(given)
        )  # fmt: skip
        path = flow.interpolate(a, b, wish.steps, level)
        report(1, 1, "")
        words = f"innverse interpolate a.png b.png --model {wish.model} --steps {wish.steps}"
        files = {"strip.png": file_of(grid(path, wish.steps))}
        files |= {f"step{k}.png": png(x) for k, x in enumerate(path)}
        return Product({"command": words, "steps": wish.steps}, files)

    return work


def _fit(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The middle of a picture, at the size and with the channels of a model."""
    c, h, w = shape
    x = x.mean(0, keepdim=True) if c == 1 else x.expand(3, -1, -1)
    side = min(x.shape[-2:])
    top, left = ((n - side) // 2 for n in x.shape[-2:])
    square = x[:, top : top + side, left : left + side]
    return F.interpolate(square[None], (h, w), mode="bilinear", antialias=True)[0]
