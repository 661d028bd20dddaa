"""Pictures one after the other, in one file."""

from __future__ import annotations

import io

from torch import Tensor

from ..data.image_io import to_pil
from ..errors import UsageError
from .lettering import enlarge


def gif(frames: Tensor, cell: int = 256, milliseconds: int = 150) -> bytes:
    """An animated GIF that runs for ever, small pictures enlarged as in a `panel`.

    Gray levels are exact, colours are those of a palette of 256 for each frame.

    Args:
        frames: (N, C, H, W) in [0, 1], C = 1 or 3.
        cell: width in pixels that small pictures are enlarged towards.
        milliseconds: how long each frame stands.

    Raises:
        UsageError: not a batch of pictures, or none in it.

    Example:
        >>> gif(torch.rand(3, 1, 8, 8))[:6]
        b'GIF89a'
    """
    if frames.ndim != 4 or len(frames) == 0:
        raise UsageError(f"an animation needs images (N, C, H, W), not {tuple(frames.shape)}")
    pictures = [enlarge(to_pil(frame), cell) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0
    )
    return buffer.getvalue()
