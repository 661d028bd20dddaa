"""Three models trained on the same images, for the same time, with about as many parameters."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from ... import flows, generators
from ...data import ImageSource, atomic_write, fit_all, open_images, split
from ...errors import InputError
from ...train import TrainingConfig, load_config, train
from ...train.adversarial import AdversarialTrainer
from ...train.sources import TrainingImages
from ...train.trainer import Trainer

HELD_OUT = 200
_LARGEST = 64  # side of what larger images are brought to


def prepare(data: str, subset: str | None, folder: Path) -> tuple[str, str | None, ImageSource]:
    """Images to train on, all of one square size: (data, subset, source).

    Images of one size that the models can take stay where they are. Others are fitted, as test
    images are, into ``folder``/images.npy: whole pictures, not crops of them.

    Raises:
        InputError: images smaller than 8 pixels.
    """
    source = open_images(data, subset=subset)
    side = _side(source)
    if source.size == (side, side):
        return data, subset, source
    array = fit_all(source, (side, side)).numpy()
    array = array[:, 0] if source.channels == 1 else array
    path = atomic_write(folder / "images.npy", lambda file: np.save(file, array))
    return str(path), None, open_images(path)


def recipes(data: str, subset: str | None, source: ImageSource, seed: int = 0) -> dict[str, dict]:
    """{label: settings as `innverse.train.load_config` takes them}, all but the number of steps.

    The three arguments are what `prepare` gives. The INN is a Glow. VAE and GAN get k = n / 8
    latents (8 to 128), and the width that brings them nearest to its number of parameters.
    """
    channels, (height, width) = source.channels, source.size or (0, 0)
    shape = (channels, height, width)
    levels = 3 if shape[1] % 8 == 0 and shape[1] >= 16 else 2
    small = shape[1] < 16
    glow = {"levels": levels, "steps": 4 if small else 8, "hidden": 48 if small else 96}
    target = flows.build("glow", shape, **glow).n_parameters
    latent = min(128, max(8, shape[0] * shape[1] * shape[2] // 8))
    likelihood = {"lr": 2e-3, "ema": 0.995}
    adversarial = {"lr": 3e-4, "ema": 0.995, "betas": (0.5, 0.99), "clip": 1e3, "warmup": 0}
    chosen = {
        "INN": ({"name": "glow", **glow}, likelihood),
        "VAE": ({"name": "vae", **_as_large("vae", shape, latent, target)}, likelihood),
        "GAN": ({"name": "gan", **_as_large("gan", shape, latent, target)}, adversarial),
    }
    common = {
        "data.path": data, "data.subset": subset, "data.channels": shape[0],
        "data.crop": shape[1], "data.held_out": HELD_OUT, "data.flip": False,
        "train.batch_size": 64, "train.seed": seed,
    }  # fmt: skip
    return {
        label: common
        | {f"model.{key}": value for key, value in model.items()}
        | {f"train.{key}": value for key, value in settings.items()}
        for label, (model, settings) in chosen.items()
    }


def train_three(
    settings: dict[str, dict[str, Any]],
    folder: Path,
    minutes: float,
    device: str = "cpu",
    quiet: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> list[Path] | None:
    """Train each of `recipes` for ``minutes``; the folders of the models, None if interrupted.

    A few steps are timed first and tell how many fit: the learning rate follows the number of
    steps, so it must be known from the start.
    """
    found = []
    for label in settings:
        seconds = _seconds_of_a_step(_config(settings[label], 20), device)
        steps = max(20, int(60 * minutes / seconds))
        say(f"training the {label}: {steps} steps in about {minutes:g} minutes")
        config = _config(settings[label], steps)
        outcome = train(config, folder / label.lower(), resume=False, device=device, quiet=quiet)
        if not outcome.complete or outcome.model is None:
            return None
        found.append(outcome.model)
    return found


def _config(settings: dict[str, Any], steps: int) -> TrainingConfig:
    often = dict.fromkeys(("eval_every", "sample_every", "checkpoint_every"), steps)
    paced = {"steps": steps, "warmup": min(100, steps // 10), **often}
    given = {f"train.{key}": value for key, value in paced.items()} | settings
    return cast("TrainingConfig", load_config(None, given))  # the data are images


def _seconds_of_a_step(config: TrainingConfig, device: str) -> float:
    kind = AdversarialTrainer if config.model.adversarial else Trainer
    trainer = kind(config, TrainingImages(config), device=device)
    trainer.initialize()
    times = []
    for _ in range(8):
        started = time.perf_counter()
        trainer.step()
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def _side(source: ImageSource) -> int:
    """The largest side that all images have and the models take, up to 64 pixels."""
    side = min(_LARGEST, *(n for size in source.known_sizes().values() for n in size))
    side -= side % (8 if side >= 32 else 4)
    if side < 8:
        raise InputError(f"{source.name(0)} and others are too small: 8x8 pixels at least")
    return side


def _as_large(name: str, shape: tuple[int, int, int], latent: int, target: int) -> dict[str, int]:
    """latent and width of the generator whose number of parameters is nearest to the target."""

    def sizes() -> Iterator[tuple[int, int]]:
        for width in range(8, 136, 8):
            n = generators.build(name, shape, latent=latent, width=width).n_parameters
            yield abs(n - target), width

    return {"latent": latent, "width": min(sizes())[1]}


def held_out(source: ImageSource) -> ImageSource:
    """The images that the training left out."""
    return split(source, max(1, min(HELD_OUT, len(source) // 5)), 0)[1]
