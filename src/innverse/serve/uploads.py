"""Pictures that visitors bring: read within bounds, kept in memory for a while, never on the disk."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.image_io import decode, quiet
from ..errors import InputError
from .jobs import Busy
from .limits import Limits

_FRESH = 60.0  # seconds in which an upload is not dropped for another


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

    @property
    def picture(self) -> PIL.Image.Image:
        x = self.pixels.numpy()
        return PIL.Image.fromarray(x[0] if len(x) == 1 else np.moveaxis(x, 0, -1).copy())


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
            Busy: others of the last minute fill the memory.
        """
        with quiet():
            found = decode(data, "the file", most=self.limits.decoded)
            x, notes = torch.from_numpy(found.as_uint8()), [*found.notes]
        if found.bits > 8:
            notes.append(f"read with 8 of its {found.bits} bits")
        h, w = x.shape[1:]
        if h * w > self.limits.pixels:
            size = _within(self.limits.pixels, h, w)
            x = F.interpolate(x[None], size, mode="bilinear", antialias=True)[0]
            notes.append(f"reduced from {w}x{h} to {size[1]}x{size[0]} pixels")
        upload = Upload(x, notes)
        self.forget()
        with self._lock:
            self._make_room(x.numel())
            self._kept[upload.id] = upload
        return upload

    def _make_room(self, size: int) -> None:
        room = self.limits.memory - sum(kept.pixels.numel() for kept in self._kept.values())
        for id, kept in [*self._kept.items()]:  # the oldest first
            if room < size:
                if kept.since > time.monotonic() - min(_FRESH, self.limits.keep):
                    raise Busy(_FRESH)
                room += kept.pixels.numel()
                del self._kept[id]

    def __len__(self) -> int:
        return len(self._kept)

    def forget(self) -> None:
        """Those that are old, whether somebody asks for them or not."""
        oldest = time.monotonic() - self.limits.keep
        with self._lock:
            self._kept = {id: kept for id, kept in self._kept.items() if kept.since >= oldest}

    def get(self, id: str) -> Upload:
        """
        Raises:
            InputError: it is not there, or no longer.
        """
        self.forget()
        with self._lock:
            found = self._kept.get(id)
        if found is None:
            raise InputError("that picture is no longer here (they are deleted after a while): "
                             "choose it again")  # fmt: skip
        return found


def _within(pixels: int, h: int, w: int) -> tuple[int, int]:
    """The largest size of the same shape with so many pixels, as far as a thin one can have it."""
    scale = (pixels / (h * w)) ** 0.5
    rows = max(1, int(h * scale))
    columns = max(1, min(int(w * scale), pixels // rows))
    return min(rows, pixels // columns), columns
