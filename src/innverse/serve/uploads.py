"""Pictures that visitors bring: read within bounds, kept in memory for a while, never on the disk."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.image_io import decode_image
from ..errors import InputError
from .limits import Limits


@dataclass
class Upload:
    """A picture (C, H, W) of bytes, and what was changed on the way."""

    pixels: Tensor
    notes: list[str]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    since: float = field(default_factory=time.monotonic)

    @property
    def image(self) -> Tensor:
        """(C, H, W) on [0, 1]."""
        return self.pixels.float() / 255


class Uploads:
    """The newest uploads.

    Example:
        >>> kept = Uploads(Limits(pixels=64))
        >>> import io, PIL.Image
        >>> file = io.BytesIO()
        >>> PIL.Image.new("L", (16, 16)).save(file, "PNG")
        >>> upload = kept.add(file.getvalue())
        >>> upload.pixels.shape, upload.notes
        (torch.Size([1, 8, 8]), ['reduced from 16x16 to 8x8 pixels'])
        >>> kept.get(upload.id) is upload
        True
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self._kept: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def add(self, data: bytes) -> Upload:
        """Read a file.

        Raises:
            InputError: it is no picture, or one that expands beyond reason.
        """
        image = decode_image(data, "the file")
        x, notes = image.tensor, [*image.notes]
        h, w = image.size
        if h * w > self.limits.pixels:
            scale = (self.limits.pixels / (h * w)) ** 0.5
            size = max(1, int(h * scale)), max(1, int(w * scale))
            x = F.interpolate(x[None], size, mode="bilinear", antialias=True)[0]
            notes.append(f"reduced from {w}x{h} to {size[1]}x{size[0]} pixels")
        upload = Upload((255 * x).round().clamp(0, 255).to(torch.uint8), notes)
        with self._lock:
            old = time.monotonic() - self.limits.keep
            for id, kept in [*self._kept.items()]:
                if kept.since < old or len(self._kept) >= self.limits.pictures:
                    del self._kept[id]
            self._kept[upload.id] = upload
        return upload

    def get(self, id: str) -> Upload:
        """
        Raises:
            InputError: it is not there, or no longer.
        """
        with self._lock:
            found = self._kept.get(id)
        if found is None or found.since < time.monotonic() - self.limits.keep:
            raise InputError("that picture is no longer here (they are deleted after a while): "
                             "choose it again")  # fmt: skip
        return found
