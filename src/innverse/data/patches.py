"""Patches of photographs as vectors: the density estimation problem of Zoran & Weiss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, UsageError
from .sources import ImageSource


def natural_patches(source: ImageSource, n: int, seed: int = 0, side: int = 8) -> Tensor:
    """``n`` random gray patches as float32 vectors (n, side**2 - 1), on the scale where white is 1.

    Each is dequantised, (v + u) / 256 with u uniform, its mean is subtracted, and the last pixel,
    which then follows from the others, is dropped (Uria et al. 2013, arXiv 1306.0186; the BSDS300
    table of Papamakarios et al. 2017, arXiv 1705.07057). Every position of every image is equally
    likely.

    Args:
        source: gray images, as `open_images` gives them with ``channels=1``.

    Raises:
        InputError: colour images, or an image smaller than a patch.
        UsageError: ``n`` or ``side`` out of range.

    Example:
        >>> import numpy as np
        >>> pixels = np.random.default_rng(0).integers(0, 255, (1, 1, 32, 32)).astype(np.uint8)
        >>> natural_patches(ImageSource(["a"], pixels), 5).shape
        torch.Size([5, 63])
    """
    if n < 1 or side < 2:
        raise UsageError(f"n={n}, side={side}: at least 1 patch of side 2")
    if source.channels != 1:
        raise InputError("patches are gray: open the images with channels=1")
    images = [source.array(i)[0] for i in range(len(source))]
    rows, columns = (np.array([image.shape[a] - side + 1 for image in images]) for a in (0, 1))
    if rows.min() < 1 or columns.min() < 1:
        small = source.name(int(np.minimum(rows, columns).argmin()))
        raise InputError(f"{small} is smaller than a patch of {side}x{side} pixels")
    rng = np.random.default_rng(seed)
    which = rng.choice(len(images), n, p=rows * columns / (rows * columns).sum())
    top = (rng.random(n) * rows[which]).astype(int)
    left = (rng.random(n) * columns[which]).astype(int)
    patches = np.empty((n, side, side), np.float32)
    for i, image in enumerate(images):
        mine = np.flatnonzero(which == i)
        windows = np.lib.stride_tricks.sliding_window_view(image, (side, side))
        patches[mine] = windows[top[mine], left[mine]]
    x = (patches.reshape(n, -1) + rng.random((n, side * side), np.float32)) / 256
    return torch.from_numpy((x - x.mean(1, keepdims=True))[:, :-1])
