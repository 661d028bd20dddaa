"""JPEG as a measurement: cosine coefficients of 8x8 blocks, rounded to multiples of a table.

A decoded picture is the picture plus what the rounding took away, which is independent of value to
value not in pixels but in the coefficients, and of known size there: step / sqrt(12). So A is linear
(the identity, or the colours at half resolution), and the rounding belongs to the noise. Gradients go
through A alone, which is called straight-through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..catalog import Operator
from ..errors import ShapeError, UsageError
from ..options import switch, whole
from ..shapes import tensor_of
from .base import LinearPhysics, TightFrame, per_item
from .channels import LUMA, ChannelMixing
from .convolution import fold
from .downsampling import Downsampling
from .quantised import QuantisationNoise
from .stacked import Stacked

# ITU-R T.81, annex K; libjpeg scales them by the quality
_LUMA_STEPS = """
16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101
72 92 95 98 112 100 103 99"""
_CHROMA_STEPS = """
17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99"""
_YCC = [  # luma, and how far blue and red are from it
    list(LUMA),
    [-0.299 / 1.772, -0.587 / 1.772, 0.5],
    [0.5, -0.587 / 1.402, -0.114 / 1.402],
]
_WHITE, _MIDDLE = 255, 128
_LEAST = 1 / 6  # of the deviation of a cell: what a coefficient that was rounded to nothing has


def quantisation_tables(quality: int) -> tuple[Tensor, Tensor]:
    """The steps (8, 8) of luma and of chroma that libjpeg takes for a quality from 1 to 100.

    Example:
        >>> from innverse.physics.jpeg import quantisation_tables
        >>> quantisation_tables(50)[0][0, :4].tolist()
        [16, 11, 10, 16]
    """
    if int(quality) != quality or not 1 <= quality <= 100:
        raise UsageError(f"the quality of a JPEG is a whole number from 1 to 100, got {quality}")
    scale = 5000 // int(quality) if quality < 50 else 200 - 2 * int(quality)
    tables = [torch.tensor([*map(int, t.split())]) for t in (_LUMA_STEPS, _CHROMA_STEPS)]
    luma, chroma = (((t * scale + 50) // 100).clamp(1, 255).view(8, 8) for t in tables)
    return luma, chroma


class JPEG(LinearPhysics):
    """Pictures that went through a JPEG file: calling it gives the decoded picture.

    Every method solves it: those of least squares weigh each coefficient by its step, "posterior" and
    its like know that it lay within its cell (`QuantisationNoise`). Beyond the edge pictures are
    continued as their last pixel, to whole blocks.

    Args:
        image_shape: (1, H, W) or (3, H, W).
        quality: 1 to 100, as libjpeg counts it.
        subsampling: whether colours are kept at half the resolution (4:2:0): means of 2x2 pixels,
            which are repeated; libjpeg interpolates them unless told otherwise.
        tables: steps (8, 8) of luma and chroma instead of a quality, or all 64 in a row: what
            ``PIL.Image.open(file).quantization`` has.
        sigma: deviation of Gaussian noise before, >= 0.

    Raises:
        ShapeError: images of other than 1 or 3 channels, tables of other than 64 steps.
        UsageError: a quality that is none, steps below 1.

    Example:
        >>> physics = JPEG((1, 16, 16), quality=20)
        >>> y = physics(torch.rand(1, 1, 16, 16))
        >>> torch.equal((255 * y).round() / 255, y)  # of 8 bits
        True
    """

    measures_images = True

    def __init__(
        self, image_shape, quality: int = 50, subsampling: bool = False, tables=None, sigma=0.0
    ):
        super().__init__(image_shape)
        channels = self.known_shape[0]
        if len(self.known_shape) != 3 or channels not in (1, 3):
            raise ShapeError(f"JPEG has images of 1 or 3 channels, got {self.image_shape}")
        self.quality = int(quality) if tables is None else None
        self.subsampled = bool(subsampling) and channels == 3
        self.acts_per_channel = channels == 1
        self.is_diagonal = self.direct = not self.subsampled
        steps = quantisation_tables(quality) if tables is None else _checked_tables(tables)
        self.noise = JPEGNoise(Codec(self.known_shape, self.subsampled), steps, sigma)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self._colours_halved(x) if self.subsampled else x

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_image(y)
        if not self.subsampled:
            return y
        # A = crop M^-1 P M pad with a projection P
        ycc, pad = torch.tensor(_YCC, dtype=torch.float64), _Padding(self.known_shape, 16)
        whole = F.pad(y, (0, pad.columns - y.shape[-1], 0, pad.rows - y.shape[-2]))
        mixed = _halved(ChannelMixing(ycc.inverse()).A_adjoint(whole))
        return pad.A_adjoint(ChannelMixing(ycc).A_adjoint(mixed))

    def _colours_halved(self, x: Tensor) -> Tensor:
        ycc, (rows, columns) = torch.tensor(_YCC, dtype=torch.float64), x.shape[-2:]
        mixed = _halved(ChannelMixing(ycc).A(_Padding(self.known_shape, 16).A(x)))
        return ChannelMixing(ycc.inverse()).A(mixed)[..., :rows, :columns]

    def A_dagger(self, y):
        return super().A_dagger(y) if self.subsampled else self.A_adjoint(y)

    def diagonal(self, x):
        return x.new_ones([1] * x.ndim)

    def solve_normal(self, rhs, rho, x0=None, **options):
        if self.subsampled:
            return super().solve_normal(rhs, rho, x0, **options)
        return rhs / (1 + per_item(rho, rhs))

    def norms_squared(self, x_shape, iters=30):
        return super().norms_squared(x_shape, iters) if self.subsampled else torch.ones(1)

    def extra_repr(self) -> str:
        return f"{self.image_shape}, quality={self.quality}, subsampled={self.subsampled}"


class JPEGNoise(QuantisationNoise):
    """What the rounding of cosine coefficients does; `std` is that of coefficients, given their levels.

    A coefficient that was rounded to a level lay anywhere in its cell; one that was rounded to nothing,
    as most are, was as large as coefficients of its frequency are, see `_sizes`.
    """

    def __init__(self, codec: Codec, tables: tuple[Tensor, Tensor], sigma: float = 0.0):
        super().__init__(codec.spread(tables), sigma, offset=codec.middle())
        self.codec, self.tables, self.basis = codec, tables, codec.coefficients
        self._soft_pixels = 1 / (_WHITE * math.sqrt(12))  # decoded pictures are of 8 bits

    def forward(self, y: Tensor, generator=None) -> Tensor:
        coefficients = self.codec.coefficients.A(self._before(y, generator))
        decoded = self.codec.decode(self.rounded(coefficients))
        return (_WHITE * decoded.clamp(0, 1)).round() / _WHITE

    def std(self, clean: Tensor) -> Tensor:
        step = self.step.to(clean)
        level = ((self.rounded(clean) - self.offset.to(clean)) / step).round()
        planes = zip(*map(self.codec.planes, (step, level)), strict=True)
        variance = self.codec.joined([_variance(s, n) for s, n in planes])
        return (variance + self.read_sigma**2 + self._soft_pixels**2).sqrt()

    def _with_sigma(self, sigma: float) -> JPEGNoise:
        return JPEGNoise(self.codec, self.tables, sigma)


class Codec:
    """What a JPEG keeps of pictures: cosine coefficients of luma and chroma.

    Args:
        image_shape: (1, H, W) or (3, H, W).
        subsampled: whether chroma is that of means of 2x2 pixels.

    Attributes:
        coefficients: the operator from pictures to coefficients: in the place of the pixels, or
            where chroma is smaller (B, m).
        size, half: (rows, columns) of luma in whole blocks, and of subsampled chroma.

    Example:
        >>> from innverse.physics.jpeg import Codec
        >>> Codec((1, 8, 16)).coefficients.A(torch.ones(1, 1, 8, 16))[0, 0, 0, ::8].round()
        tensor([8., 8.])
    """

    def __init__(self, image_shape, subsampled: bool = False):
        channels, height, width = self.image_shape = tuple(image_shape)
        pad = _Padding(image_shape, 16 if subsampled else 8)
        self.subsampled, self.size = subsampled, (pad.rows, pad.columns)
        self.half = pad.rows // 2, pad.columns // 2
        whole = (3, *self.size)
        of: LinearPhysics = BlockCosines((channels, *self.size))
        if channels == 3 and not subsampled:
            of = of @ ChannelMixing(_YCC, image_shape=whole)
        elif subsampled:
            luma = BlockCosines((1, *self.size)) @ ChannelMixing(_YCC[:1], image_shape=whole)
            chroma = Downsampling(2, (2, *self.size), "box") @ ChannelMixing(_YCC[1:], None, whole)
            of = Stacked([luma, BlockCosines((2, *self.half)) @ chroma])
        self.coefficients = of if self.size == (height, width) else of @ pad

    def joined(self, planes: Sequence[Tensor]) -> Tensor:
        """Luma (B, 1, ...), and chroma (B, 2, ...) of colours, in the shape of the coefficients."""
        return torch.cat([p.flatten(1) for p in planes] if self.subsampled else [*planes], 1)

    def planes(self, y: Tensor) -> list[Tensor]:
        """Luma and chroma of coefficients."""
        if not self.subsampled:
            return [y[:, :1], y[:, 1:]][: self.image_shape[0]]
        luma, chroma = y.tensor_split([self.size[0] * self.size[1]], 1)
        return [luma.reshape(-1, 1, *self.size), chroma.reshape(-1, 2, *self.half)]

    def spread(self, tables: tuple[Tensor, Tensor]) -> Tensor:
        """The steps of all coefficients."""
        luma, chroma = (t.double() / _WHITE for t in tables)
        planes = [(1, luma, self.size)]
        if self.image_shape[0] == 3:
            planes.append((2, chroma, self.half if self.subsampled else self.size))
        return self.joined([t.repeat(1, c, h // 8, w // 8) for c, t, (h, w) in planes])

    def middle(self) -> Tensor:
        """The coefficients of the luma 128, from which steps are counted."""
        levels = self.spread((torch.zeros(8, 8), torch.zeros(8, 8)))
        self.planes(levels)[0][..., ::8, ::8] = 8 * _MIDDLE / _WHITE  # views of them
        return levels

    def decode(self, y: Tensor) -> Tensor:
        """The picture of coefficients."""
        channels, height, width = self.image_shape
        whole = [_by_blocks(p, back=True) for p in self.planes(y)]
        if self.subsampled:
            whole[1] = _repeated(whole[1])
        planes = torch.cat(whole, 1)
        if channels == 3:
            planes = ChannelMixing(torch.tensor(_YCC, dtype=torch.float64).inverse()).A(planes)
        return planes[..., :height, :width]


def _variance(step: Tensor, level: Tensor) -> Tensor:
    """Of what was rounded to a level, (B, C, h, w): step^2 / 12, and around 0 that of a Laplace
    distribution cut off at step / 2."""
    b = _sizes(step, level)
    t = step / (2 * b)
    small = b.square() * (2 - (t.square() + 2 * t) * (-t).exp() / (1 - (-t).exp()))
    usual = step.square() / 12
    small = torch.minimum(small.maximum(_LEAST**2 * usual), usual)
    return torch.where(level == 0, small, usual.expand_as(level))


def _sizes(step: Tensor, level: Tensor) -> Tensor:
    """How large coefficients are at each frequency f, E|c| = a f^-g, from their levels alone.

    The mean over what a grid of (a, g) makes likely in each channel of each item, if coefficients
    follow a Laplace distribution (Lam & Goodman, IEEE TIP 9(10), 2000): of |c| / step rounded to
    m > 0 the probability is exp(-(2 m - 1) t) - exp(-(2 m + 1) t), and 1 - exp(-t) of m = 0, with
    t = step / (2 E|c|).
    """
    blocks = level.abs().unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(3, 4)
    blocks = blocks.flatten(2, 3).flatten(-2)  # (B, C, blocks, 64)
    zeros, rest = (blocks == 0).sum(2), (blocks > 0).sum(2)
    reach = (2 * blocks - 1).clamp_min(0).sum(2)
    k = torch.arange(8, dtype=step.dtype, device=step.device)
    f = (k[:, None].square() + k.square()).sqrt().clamp_min(1).flatten()
    g = torch.linspace(0.5, 3.5, 13).to(f)
    a = torch.logspace(-3, 1, 81).to(f)
    size = a[:, None, None] * f ** -g[:, None]  # (a, g, 64)
    t = step[:, :, None, None, :8, :8].flatten(-2) / (2 * size)
    zeros, rest, reach = (n[:, :, None, None] for n in (zeros, rest, reach))
    log_p = zeros * (-torch.expm1(-t)).log() + rest * (-torch.expm1(-2 * t)).log() - reach * t
    weight = log_p[..., 1:].sum(-1).flatten(2).softmax(2)  # the mean is no matter of its own size
    found = (weight @ size.square().flatten(0, 1)).sqrt().unflatten(-1, (8, 8))
    found[..., 0, 0] = 4 * step[..., 0, 0]
    return found.repeat(1, 1, level.shape[-2] // 8, level.shape[-1] // 8)


class BlockCosines(TightFrame):
    """The orthonormal cosine transform of all 8x8 blocks, each in its place.

    Args:
        image_shape: (C, H, W), sides that are multiples of 8.

    Example:
        >>> from innverse.physics.jpeg import BlockCosines
        >>> check_adjoint(BlockCosines((1, 8, 16)), (2, 1, 8, 16)) < 1e-5
        True
    """

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return _by_blocks(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_image(y)
        return _by_blocks(y, back=True)


def _by_blocks(x: Tensor, back: bool = False) -> Tensor:
    k = torch.arange(8, dtype=torch.float64)
    cosines = 0.5 * torch.cos(math.pi / 8 * k[:, None] * (k + 0.5))
    cosines[0] /= math.sqrt(2)
    c = (cosines.T if back else cosines).to(x)
    blocks = x.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8))  # (B, C, rows, 8, columns, 8)
    return torch.einsum("ij,bcrjsk,lk->bcrisl", c, blocks, c).reshape(x.shape)


class _Padding(LinearPhysics):
    """The image continued by its last row and column to multiples of ``block``."""

    def __init__(self, image_shape, block: int):
        super().__init__(image_shape)
        _, height, width = self.known_shape
        self.rows, self.columns = (block * -(-n // block) for n in (height, width))

    def A(self, x: Tensor) -> Tensor:
        for axis, index in self._sources(x):
            x = x.index_select(axis, index)
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        for axis, index in self._sources(y):
            shape = [*y.shape]
            shape[axis] = self.known_shape[axis - 1]
            y = y.new_zeros(shape).index_add(axis, index, y)
        return y

    def _sources(self, like: Tensor) -> list[tuple[int, Tensor]]:
        _, height, width = self.known_shape
        sides = ((2, self.rows, height), (3, self.columns, width))
        return [
            (axis, fold(torch.arange(n, device=like.device), size, "replicate"))
            for axis, n, size in sides
        ]


def _halved(x: Tensor) -> Tensor:
    """Luma as it is, chroma as means of 2x2 pixels: a projection."""
    return torch.cat([x[:, :1], _repeated(F.avg_pool2d(x[:, 1:], 2))], 1)


def _repeated(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def _checked_tables(tables) -> tuple[Tensor, Tensor]:
    """(luma, chroma) of what was given; one table serves both."""
    rows = [*tables.values()] if isinstance(tables, dict) else [*tables]
    steps = [tensor_of(t, "a table of steps is a tensor or 64 numbers") for t in rows[:2]]
    if not steps or any(t.numel() != 64 for t in steps):
        raise ShapeError("the tables of a JPEG are two (luma, chroma), of 8x8 steps each")
    if not all(bool((t >= 1).all()) for t in steps):
        raise UsageError("the steps of a JPEG are at least 1")
    return steps[0].view(8, 8), steps[-1].view(8, 8)


class NamedJPEG(Operator):
    """Pictures out of JPEG files."""

    operator = JPEG
    rounds = True

    quality: int = whole(
        50,
        "Of the file, as libjpeg counts it.",
        1,
        100,
        required="1 to 100, with which the file was written",
    )
    subsampling: bool = switch(False, "Whether colours have half the resolution (4:2:0).")

    def build(self, shape):
        return JPEG(shape, self.quality, self.subsampling)
