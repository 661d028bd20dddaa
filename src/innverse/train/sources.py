"""The crops a run trains on and is judged by."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data import Crops, open_images, split
from ..data.bank import CropsOnDevice, fits
from ..device import runs_ahead
from ..models.store import load
from .distributed import World

if TYPE_CHECKING:
    from .config import TrainingConfig


class TrainingImages:
    """Training crops as a function of the step, and fixed held-out crops.

    Args:
        config: the settings; its ``[data]`` is what `innverse.data.open_images` takes.
        world: the processes that share each batch.

    Attributes:
        config: the settings fitted to the images, see `TrainingConfig.fitted`.
        train: the images that are not held out.
        notes: on how they were read.

    Raises:
        InputError: no readable image, or one too small for the crop.
    """

    def __init__(self, config: TrainingConfig, world: World | None = None):
        self._world, d = world or World(), config.data
        given = None if config.model.init is None else load(config.model.init)
        images = partial(
            open_images, d.path, channels=d.channels, deep=True, x_range=d.range, like=given
        )
        source = images(subset=d.subset)
        self.config = config.fitted(source.channels, source.size, source.x_range, source.units)
        self.failures, self.notes = source.failures, source.notes
        self.train, self._test = source, None
        if d.held_out_subset is not None:
            self._test = images(subset=d.held_out_subset)
        elif d.held_out:
            # never more than a fifth; seed 0: runs of different seeds are judged on the same images
            n = round(d.held_out * len(source)) if isinstance(d.held_out, float) else d.held_out
            n = min(n, len(source) // 5)
            if n:
                self.train, self._test = split(source, n, 0)
        self.n_train = len(self.train)
        self.n_held_out = 0 if self._test is None else len(self._test)
        self._crops: dict[tuple, Any] = {}  # by rank and size of the world, and the device

    def fitted_to(self, config: TrainingConfig) -> TrainingImages:
        """The same images, read once, with other settings."""
        other = copy.copy(self)
        other.config, other._crops = config, {}
        return other

    def batch(
        self, step: int, world: World | None = None, device: torch.device | None = None
    ) -> Tensor:
        """(B / world.size, C, s, s), uint8 or uint16: this process's share of the crops of a step.

        For a ``device`` that runs ahead they are cut there, if the images fit.
        """
        world = world or self._world
        key = (world.rank, world.size)
        if key not in self._crops:
            d, t = self.config.data, self.config.train
            self._crops[key] = Crops(
                self.train, self.config.shape[1], t.batch_size, flip=d.flip, transpose=d.transpose,
                seed=t.seed, rank=world.rank, world=world.size,
            )  # fmt: skip
        crops = self._crops[key]
        if device is None or not runs_ahead(device):
            return crops.batch(step)
        there = (*key, device)
        if there not in self._crops:
            self._crops[there] = CropsOnDevice(crops, device) if fits(crops) else crops
        return self._crops[there].batch(step).to(device, non_blocking=True)

    def held_out(self, n: int) -> list[Tensor]:
        """About n held-out crops in batches, the same ones every time."""
        if self._test is None:
            return []
        size = min(n, 32)
        crops = Crops(
            self._test, self.config.shape[1], size, flip=False, transpose=False,
            seed=self.config.train.seed + 1, rank=0, world=1,
        )  # fmt: skip
        return [crops.batch(step) for step in range(max(n // size, 1))]
