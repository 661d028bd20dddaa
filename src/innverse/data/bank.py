"""Crops cut on a device from images that stay there as bytes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .crops import Crops

MOST_BYTES = 4 << 30
"""Of images that are kept on a device."""

_STEPS = 64  # of which the choices are sent at once


def fits(crops: Crops) -> bool:
    """Whether all images are bytes in memory, and few enough to be kept on a device."""
    source = crops.source
    if source.array(0).dtype != np.uint8:
        return False  # devices know little of other whole numbers without a sign
    sizes = source.known_sizes()
    if source.base is None and len(sizes) < len(source):
        return False  # some are read from disk at each use
    pixels = sum(h * w for h, w in sizes.values()) * (len(source) // len(sizes))
    return source.channels * pixels <= MOST_BYTES


class CropsOnDevice:
    """The batches of `Crops`, bit for bit, cut on ``device``.

    What a step draws is a function of (seed, step) and made on the CPU; it goes to the device for 64
    steps at once, so the steps between wait for nothing.

    Example:
        >>> import numpy as np
        >>> from innverse.data.bank import CropsOnDevice
        >>> images = np.random.default_rng(0).integers(0, 256, (3, 1, 9, 9), dtype=np.uint8)
        >>> crops = Crops(ImageSource(["a", "b", "c"], images), 4, batch_size=5)
        >>> bool((CropsOnDevice(crops, "cpu").batch(7) == crops.batch(7)).all())
        True
    """

    def __init__(self, crops: Crops, device: torch.device | str):
        self.crops, self.device = crops, torch.device(device)
        images = [crops.large_enough(i) for i in range(len(crops.source))]
        self._sizes = np.array([image.shape[1:] for image in images])
        self._starts = np.cumsum([0] + [image.size for image in images])[:-1]
        every = np.concatenate([image.reshape(-1) for image in images])
        self._bytes = torch.from_numpy(every).to(self.device)
        self._block, self._choices = -1, torch.empty(0)
        c, h, w = crops.shape
        self._channels, self._down, self._right = (
            torch.arange(n, device=self.device).view(-1, *[1] * axes)
            for n, axes in ((c, 2), (h, 1), (w, 0))
        )

    def batch(self, step: int) -> Tensor:
        """The crops of this process at ``step``: uint8 (batch_size / world, C, height, width)."""
        block, k = divmod(step, _STEPS)
        if block != self._block:
            rows = [self._chosen(block * _STEPS + i) for i in range(_STEPS)]
            chosen = torch.from_numpy(np.stack(rows))
            if self.device.type == "cuda":
                chosen = chosen.pin_memory()  # else to send it is to wait
            self._choices = chosen.to(self.device, non_blocking=True)
            self._block = block
        corner, area, width, mirrored, transposed = self._choices[k].unbind()
        row, column = self._down, self._right
        if self.crops.transpose:
            row, column = (
                torch.where(transposed > 0, b, a) for a, b in ((row, column), (column, row))
            )
        column = torch.where(mirrored > 0, self.crops.width - 1 - column, column)
        return self._bytes.take(corner + self._channels * area + row * width + column)

    def _chosen(self, step: int) -> np.ndarray:
        """Of each crop the place of its corner among all bytes, the area and the width of its image,
        and whether it is mirrored and transposed: int64 (5, B, 1, 1, 1)."""
        picked, u, v, mirrored, transposed = self.crops.drawn(step)
        height, width = self._sizes[picked].T
        top = (u * (height - self.crops.height + 1)).astype(np.int64)
        left = (v * (width - self.crops.width + 1)).astype(np.int64)
        corner = self._starts[picked] + top * width + left
        chosen = np.stack((corner, height * width, width, mirrored, transposed))
        return chosen.astype(np.int64)[:, :, None, None, None]
