"""Settings that need no tuning: model, crops, batch and steps from the pictures and the time there is.

The recipe is that of the shipped prior of photographs (configs/natural-gray.toml), a noise-conditional
Glow of which the largest is taken that the time trains long enough, or, of a picture or few, that of
their patches (configs/texture.toml). How long a step takes is measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import as_unit
from ..errors import InputError, UsageError
from ..fitting.checkpoint import latest_checkpoint
from ..reading import read_json
from .config import TrainingConfig
from .sources import TrainingImages
from .trainer import Trainer

_GLOW = {
    "name": "glow", "how": "film", "activation": "silu", "squeeze": "haar", "mix": "swap", "bound": 1.5,
}  # fmt: skip
_GLOW_TRAINING = {
    "batch_size": 16, "lr": 2.5e-3, "warmup": 200, "ema": 0.999,
    "score_matching": 2.0, "score_matching_from": 0.75,
}  # fmt: skip
_PATCHES_TRAINING = {
    "batch_size": 512, "lr": 3e-3, "warmup": 100, "ema": 0.998,
    "score_matching": 2.0, "score_matching_from": 0.6,
}  # fmt: skip
# (levels, steps, hidden, crop) and the time of a step relative to the first, the largest first
SIZES = (
    (3, 8, 64, 64, 1.0), (3, 6, 48, 64, 0.5), (3, 4, 32, 64, 0.3), (2, 4, 32, 32, 0.1),
    (2, 2, 16, 32, 0.05),
)  # fmt: skip
ENOUGH = 4000  # steps that a size should get
MOST = 200_000
_FEW = 2**18  # pixels of all pictures: less teach patches only
_PIXELS_PER_WEIGHT = 2.0  # of the pictures, that a size should have at least
_TRANSPOSED = 200  # pictures: fewer are also seen transposed
_BF16 = (8, 0)  # the capability from which a GPU multiplies in bfloat16
_FASTER = 0.85  # of its time makes bfloat16 worth its rounding
_TRAINING = 0.9  # of the time; the rest is for evaluations and the report
_QUIETEST, _LOUDEST = (0.003, 0.008), 0.4  # lowest and highest noise level of the model


def settled(
    config: TrainingConfig, data: TrainingImages, out: Path, resume: bool, device: torch.device
) -> TrainingConfig:
    """``config`` with all that ``train.minutes`` leaves open; what is given stays as it is.

    A run that is continued keeps its sizes; with more minutes it gets more steps.

    Raises:
        UsageError: a model that this does not know how to size.
    """
    if config.train.minutes is None:
        return data.config
    if config.model.name not in ("glow", "patches") or config.condition is not None:
        raise UsageError(
            "train.minutes chooses a prior of pictures (glow or patches, no [condition]): give "
            "train.steps instead"
        )
    before = _before(out) if resume else None
    if before is not None and before.train.minutes is not None:
        ratio = config.train.minutes / before.train.minutes
        chosen = before.model_dump(exclude_unset=True, exclude={"out", "condition"})
        chosen["train"] |= {"minutes": config.train.minutes}
        chosen["train"]["steps"] = max(1, round(before.train.steps * ratio))
        return _laid(config, data.config, chosen)
    return _fastest(config, data, device)


def _before(out: Path) -> TrainingConfig | None:
    """The settings of the run in a folder."""
    if latest_checkpoint(out / "checkpoint") is None:
        return None
    try:
        return TrainingConfig.model_validate(read_json(out / "config.json"))
    except (InputError, ValueError):
        return None


def _fastest(config: TrainingConfig, data: TrainingImages, device: torch.device) -> TrainingConfig:
    """The largest size that gets enough steps, or the smallest."""
    began, budget = time.perf_counter(), 60 * (config.train.minutes or 0.0) * _TRAINING
    sizes = [
        (_laid(config, data.config, chosen), cost) for chosen, cost in _candidates(config, data)
    ]

    def steps(found: TrainingConfig, ratio: float = 1.0) -> int:
        """That fit into what is left, each taking ``ratio`` of what is measured of ``found``."""
        plain, scored = _step_seconds(found, data, device)
        late = 1 - found.train.score_matching_from if found.train.score_matching else 0.0
        left = budget - (time.perf_counter() - began)
        return int(left / (ratio * ((1 - late) * plain + late * scored)))

    smallest, least = sizes[-1]
    n, found = steps(smallest), smallest
    for size, cost in sizes[:-1]:
        if n * least / cost >= ENOUGH:  # as it seems; now measure it
            n, found = steps(size), size
            break
    n = min(max(n, 10), MOST)
    every = max(1, n // 10)
    pace = {
        "steps": n, "warmup": min(found.train.warmup, every), "eval_every": every,
        "checkpoint_every": min(500, every), "sample_every": n,
        "ema": min(found.train.ema, 1 - 10 / (n + 10)), "precision": _precision(found, data, device),
    }  # fmt: skip
    return _laid(config, found, {"train": pace})


def _candidates(
    config: TrainingConfig, data: TrainingImages
) -> Iterator[tuple[dict[str, dict[str, Any]], float]]:
    """Settings and the time of a step relative to each other, the largest model first."""
    sizes = [data.train.array(i).shape for i in range(len(data.train))]
    pixels = sum(h * w for _, h, w in sizes)
    side = min(min(h, w) for _, h, w in sizes)
    noise = (lowest_noise(data), _LOUDEST)
    turned = {"transpose": len(sizes) < _TRANSPOSED}
    if config.model.name == "patches" or (pixels < _FEW and not _named(config, "model", "name")):
        yield (
            {
                "data": turned | {"crop": 8},
                "model": {"name": "patches", "noise": noise},
                "train": _PATCHES_TRAINING,
            },
            1.0,
        )
        return
    for k, (levels, steps, hidden, crop, cost) in enumerate(SIZES):
        crop = min(crop, side)
        levels = min(levels, max(1, crop.bit_length() - 3))
        weights = 9 * steps * levels * hidden**2  # about
        if weights * _PIXELS_PER_WEIGHT > pixels and k < len(SIZES) - 1:
            continue
        yield (
            {
                "data": turned | {"crop": crop},
                "model": _GLOW
                | {"levels": levels, "steps": steps, "hidden": hidden, "noise": noise},
                "train": _GLOW_TRAINING,
            },
            cost,
        )


def lowest_noise(data: TrainingImages) -> float:
    """Half the noise of the pictures themselves, within bounds: below it there is nothing to learn.

    From the differences across 2x2 pixels, by their median (Donoho & Johnstone 1994).
    """
    levels = []
    for i in range(min(16, len(data.train))):
        x = as_unit(data.train[i]).numpy()
        x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
        d = x[..., ::2, ::2] - x[..., 1::2, ::2] - x[..., ::2, 1::2] + x[..., 1::2, 1::2]
        if (d != 0).any():
            levels.append(float(np.median(np.abs(d[d != 0]))) / 2 / 0.6745)
    noise = float(np.median(levels)) if levels else 0.0
    return float(np.clip(noise / 2, *_QUIETEST).round(4))


def _step_seconds(
    config: TrainingConfig, data: TrainingImages, device: torch.device
) -> tuple[float, float]:
    """Of a step by likelihood, and of one with score matching."""
    return _timed(config, data, device, {"score_matching_from": 1.0}), _timed(
        config, data, device, {"score_matching_from": 0.0}
    )


def _timed(
    config: TrainingConfig, data: TrainingImages, device: torch.device, change: dict[str, Any]
) -> float:
    """Seconds of a step with some settings changed."""
    changed = config.train.model_copy(update={"steps": 100} | change)
    trial = config.model_copy(update={"train": changed})
    trainer = Trainer(trial, data.fitted_to(trial), device=device)
    trainer.initialize()
    # what is compiled is compiled, and what is recorded
    trainer.read([trainer.step() for _ in range(1 if trainer.queued is None else 4)])
    began, rows = time.perf_counter(), []
    while len(rows) < 2 or (len(rows) < 20 and time.perf_counter() - began < 0.3):
        rows.append(trainer.step())
    trainer.read(rows)  # which a GPU may only now be at
    return (time.perf_counter() - began) / len(rows)


def _precision(config: TrainingConfig, data: TrainingImages, device: torch.device) -> str:
    """That in which the networks are clearly faster, on processors that multiply in bfloat16; on GPUs
    which do that is known."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= _BF16 else "fp32"
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return "fp32"
    half, full = (
        _timed(config, data, device, {"precision": name, "score_matching_from": 1.0})
        for name in ("bf16", "fp32")
    )
    return "bf16" if half < _FASTER * full else "fp32"


def _named(config: TrainingConfig, table: str, key: str) -> bool:
    """Whether a user gave a setting."""
    return (
        key
        in getattr(config, table).model_fields_set
        | (getattr(config, table).model_extra or {}).keys()
    )


def _laid(
    given: TrainingConfig, fitted: TrainingConfig, chosen: dict[str, dict[str, Any]]
) -> TrainingConfig:
    """The chosen settings over those fitted to the images, but for those that were given."""
    raw = fitted.model_dump(exclude_unset=True)
    for table, values in chosen.items():
        free = {k: v for k, v in values.items() if not _named(given, table, k)}
        raw[table] = raw.get(table, {}) | free
    return TrainingConfig.model_validate(raw)
