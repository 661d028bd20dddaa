"""Random crops as a pure function of the step, and uniform dequantisation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, UsageError
from .sources import ImageSource


class Crops:
    """Batches of random crops; ``batch(step)`` depends on nothing but (seed, step, rank, world).

    There is no state: a run that resumes at step 1000 sees what it would have seen, bit for bit.
    Within an epoch every image is used once, in random order. Random numbers come from the
    counter-based generator Philox (Salmon et al., SC 2011), with the step as its counter.

    With ``world`` processes each one draws the same global batch and keeps its own rows, so the
    global batch does not depend on the number of processes.

    Images of exactly the crop size are taken whole. An image smaller than the crop is padded by
    reflection if it is at least half as large, and refused otherwise.

    Args:
        source: the images.
        size: height and width of the crops, or (height, width).
        batch_size: of the global batch, over all processes.
        flip: mirror left-right half of the time.
        transpose: swap rows and columns half of the time (square crops only).
        seed, rank, world: see above.
        small: "reflect" as described, or "error" to refuse every image smaller than the crop.

    Raises:
        InputError: an image too small.
        UsageError: sizes that do not fit together.

    Example:
        >>> import numpy as np
        >>> source = ImageSource(["a", "b"], np.zeros((2, 1, 32, 32), np.uint8))
        >>> Crops(source, 16, batch_size=4).batch(0).shape
        torch.Size([4, 1, 16, 16])
    """

    def __init__(
        self,
        source: ImageSource,
        size: int | tuple[int, int],
        batch_size: int,
        flip: bool = True,
        transpose: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        small: str = "reflect",
    ):
        self.source = source
        self.height, self.width = size if isinstance(size, (tuple, list)) else (size, size)
        self.batch_size, self.flip, self.transpose = batch_size, flip, transpose
        self.seed, self.rank, self.world, self.small = seed, rank, world, small
        if min(self.height, self.width, batch_size) < 1:
            raise UsageError(f"crop size {size} and batch size {batch_size} must be at least 1")
        if batch_size % world or not 0 <= rank < world:
            raise UsageError(
                f"a batch of {batch_size} cannot be shared by {world} processes (this is number "
                f"{rank}); use a multiple of {world}"
            )
        if seed < 0:
            raise UsageError(f"seed {seed} is negative; use 0 or more")
        if transpose and self.height != self.width:
            raise UsageError(f"transpose needs square crops, not {self.height}x{self.width}")
        if small not in ("reflect", "error"):
            raise UsageError(f'small={small!r} is unknown; use "reflect" or "error"')
        for i, shape in source.known_sizes().items():
            self._check(shape, source.name(i))
        whole = source.size == (self.height, self.width)
        self._base, self._index = (source.base, source.index) if whole else (None, None)
        self._epoch = (-1, np.empty(0))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, height, width) of one crop."""
        return self.source.channels, self.height, self.width

    def batch(self, step: int) -> Tensor:
        """The crops of this process at ``step``: (batch_size / world, C, height, width) as stored."""
        picked, u, v, mirrored, transposed = self.drawn(step)
        if self._base is not None and self._index is not None:
            out = self._base[self._index[picked]]
        else:
            out = np.empty((len(picked), *self.shape), self.source.array(0).dtype)
            for k, i in enumerate(picked):
                image = self.large_enough(i)
                top = int(u[k] * (image.shape[1] - self.height + 1))
                left = int(v[k] * (image.shape[2] - self.width + 1))
                out[k] = image[:, top : top + self.height, left : left + self.width]
        out[mirrored] = out[mirrored, :, :, ::-1]
        if self.transpose:
            out[transposed] = out[transposed].swapaxes(2, 3)
        return torch.from_numpy(out)

    def drawn(self, step: int) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What decides the crops of this process: of which images, where in them (as fractions u and v
        of what is left of them above and left of the crop), and which are mirrored and transposed."""
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, step]))
        places = rng.random((2, self.batch_size))
        turned = rng.random((2, self.batch_size)) < 0.5
        local = self.batch_size // self.world
        rows = slice(self.rank * local, (self.rank + 1) * local)
        u, v = places[:, rows]
        mirrored, transposed = turned[:, rows] & [[self.flip], [self.transpose]]
        start = step * self.batch_size
        picked = [self._image(start + row) for row in range(rows.start, rows.stop)]
        return picked, u, v, mirrored, transposed

    def _image(self, position: int) -> int:
        """Which image stands at a position of the endless sequence of shuffled epochs."""
        epoch, offset = divmod(position, len(self.source))
        if epoch != self._epoch[0]:
            # counter word 2 keeps these draws apart from those of the steps
            philox = np.random.Philox(key=self.seed, counter=[0, 0, 1, epoch])
            self._epoch = epoch, np.random.Generator(philox).permutation(len(self.source))
        return int(self._epoch[1][offset])

    def large_enough(self, i: int) -> np.ndarray:
        """Image i, padded where it is smaller than the crop."""
        image = self.source.array(i)
        down, right = self.height - image.shape[1], self.width - image.shape[2]
        if down <= 0 and right <= 0:
            return image
        self._check(image.shape, self.source.name(i))
        return np.pad(image, ((0, 0), (0, max(0, down)), (0, max(0, right))), "reflect")

    def _check(self, shape: tuple[int, ...], name: str) -> None:
        height, width = shape[-2:]
        factor = 2 if self.small == "reflect" else 1
        if height * factor < self.height or width * factor < self.width:
            raise InputError(
                f"{name} is {width}x{height} pixels, too small for crops of "
                f"{self.width}x{self.height}; use smaller crops or leave it out"
            )


def as_unit(codes: Tensor) -> Tensor:
    """Whole numbers of 8 or 16 bits (uint8, uint16) as float32 in [0, 1], the largest being 1.

    Example:
        >>> float(as_unit(torch.full((1,), 255, dtype=torch.uint8)))
        1.0
    """
    return codes.float() / (n_levels(codes) - 1)


def n_levels(codes: Tensor) -> int:
    """Of gray that pixels of this type tell apart: 256, or 65536 of uint16."""
    return 65536 if codes.dtype == torch.uint16 else 256


def dequantize(
    values: Tensor,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
    *,
    levels: int = 256,
) -> Tensor:
    """Uniform dequantisation: (v + u) / levels with u ~ U[0, 1), float32 in [0, 1).

    u is rounded down to the digits that float32 has left beside v (multiples of 2^-16 for 8 bits),
    so that the sum is exact: the result never reaches 1 and, where ``levels`` is a power of 2, never
    leaves its bin, ``floor(levels x) == v``.

    Args:
        values: whole numbers 0 .. levels - 1, of any shape and type.
        generator: for the noise, on the device of ``values``.
        noise: the uniform noise itself, same shape, in [0, 1).
        levels: of grey, 2 to 65536.

    Example:
        >>> x = dequantize(torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8))
        >>> bool(x.min() >= 0), bool(x.max() < 1)
        (True, True)
    """
    if noise is None:
        noise = torch.rand(values.shape, generator=generator, device=values.device)
    parts = 2 ** (24 - (levels - 1).bit_length())
    return (values + (noise * parts).floor() / parts) / levels
