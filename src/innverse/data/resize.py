"""Pictures brought to the size of a model: the middle is cut out and scaled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .sources import ImageSource


def fit(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The largest centred part of the shape of ``size`` = (H, W), scaled to it.

    Float images (B, C, h, w) in [0, 1] to (B, C, H, W). Down by averaging over areas, up by cubic
    interpolation; images of that size are returned as they are.

    Example:
        >>> fit(torch.rand(2, 1, 20, 30), (8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """
    (h, w), (height, width) = x.shape[-2:], size
    rows = min(h, max(1, round(w * height / width)))
    columns = min(w, max(1, round(h * width / height)))
    top, left = (h - rows) // 2, (w - columns) // 2
    x = x[..., top : top + rows, left : left + columns]
    if (rows, columns) == tuple(size):
        return x
    if rows >= height and columns >= width:
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size, mode="bicubic").clamp(0, 1)


def fit_all(source: ImageSource, size: tuple[int, int]) -> Tensor:
    """All images of a source, each by `fit`, rounded to 8 bits: uint8 (N, C, H, W).

    Example:
        >>> import numpy as np
        >>> source = ImageSource(["a", "b"], np.zeros((2, 3, 32, 32), np.uint8))
        >>> fit_all(source, (8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """
    if source.size == tuple(size):
        return source.stack()
    images = (fit(source.unit(i)[None], size) for i in range(len(source)))
    return torch.cat([(255 * x).round().to(torch.uint8) for x in images])
