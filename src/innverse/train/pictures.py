"""Sample grids as PNG."""

from __future__ import annotations

import io
import math
from pathlib import Path

from torch import Tensor

from innverse.data.atomic import atomic_write

__all__ = ["save_grid"]


def save_grid(path: Path, images: Tensor, pad: int = 2) -> None:
    """Write (N, C, H, W) images in [0, 1] as one near-square PNG grid."""
    import numpy as np
    from PIL import Image

    n, c, h, w = images.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (h + pad) - pad, columns * (w + pad) - pad, c), 255, np.uint8)
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for i, tile in enumerate(pixels):
        y, x = i // columns * (h + pad), i % columns * (w + pad)
        canvas[y : y + h, x : x + w] = tile
    zoom = max(1, 256 // canvas.shape[0])  # tiny images would be unreadable
    canvas = canvas.repeat(zoom, 0).repeat(zoom, 1)
    data = io.BytesIO()
    Image.fromarray(canvas[..., 0] if c == 1 else canvas).save(data, format="PNG")
    atomic_write(path, data.getvalue())
