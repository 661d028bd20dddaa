"""Compressed sensing: a few random projections of the whole image."""

from __future__ import annotations

import math
import numbers

import torch
from torch import Tensor

from ..catalog import Operator
from ..errors import UsageError
from ..options import SEEDS, real, switch, whole
from .base import TightFrame, checked_shape
from .matrix import MatrixPhysics

DENSE_LIMIT = 2**31


def _check_size(m: int, image_shape) -> int:
    n = math.prod(checked_shape(image_shape))
    if not isinstance(m, numbers.Integral) or isinstance(m, bool) or not 1 <= m <= n:
        raise UsageError(
            f"the number of measurements must be in 1..{n} for {image_shape}, got {m!r}"
        )
    return n


class CompressedSensing(MatrixPhysics):
    """y = A vec(x) with A_ij ~ N(0, 1/m), an explicit matrix of m * n numbers.

    Args:
        m: number of measurements, 1 <= m <= n.
        image_shape: (C, H, W), n = C * H * W.
        generator, seed: source of the matrix; a generator wins over the seed.
        noise: sigma or a noise model.

    Example:
        >>> physics = CompressedSensing(16, (1, 8, 8), noise=0.01)
        >>> physics(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 16])
    """

    def __init__(self, m: int, image_shape, generator=None, seed: int = 0, noise=None):
        n = _check_size(m, image_shape)
        if 4 * m * n > DENSE_LIMIT:
            raise UsageError(
                f"a dense {m} x {n} matrix takes {4 * m * n / 2**30:.1f} GiB: use "
                f"FastCompressedSensing, or reconstruct patches"
            )
        if generator is None:
            generator = torch.Generator().manual_seed(seed)
        matrix = torch.randn(m, n, generator=generator, device=generator.device) / math.sqrt(m)
        super().__init__(matrix, image_shape, noise)


class FastCompressedSensing(TightFrame):
    """y = sqrt(n/m) S DCT diag(signs) vec(x): random signs, a cosine transform, m random rows.

    Needs no matrix, so it works for any image size. Rows are orthogonal and scaled such that
    E ||A x||^2 = ||x||^2, as for `CompressedSensing` (Do et al., IEEE TSP 60(1), 2012).

    Args: as for `CompressedSensing`.

    Example:
        >>> physics = FastCompressedSensing(16, (1, 8, 8))
        >>> physics.A(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 16])
    """

    signs: Tensor
    rows: Tensor

    def __init__(self, m: int, image_shape, generator=None, seed: int = 0, noise=None):
        super().__init__(image_shape, noise)
        self.m, self.n = m, _check_size(m, image_shape)
        self.frame = self.n / m
        if generator is None:
            generator = torch.Generator().manual_seed(seed)
        device = generator.device
        signs = torch.randint(0, 2, (self.n,), generator=generator, device=device)
        rows = torch.randperm(self.n, generator=generator, device=device)[:m]
        self.register_buffer("signs", 2.0 * signs - 1)
        self.register_buffer("rows", rows.sort().values)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        spectrum = dct(x.flatten(1) * self.signs.to(x.dtype))
        return math.sqrt(self.frame) * spectrum[:, self.rows]

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_data(y, (self.m,))
        spectrum = y.new_zeros(y.shape[0], self.n).index_copy(1, self.rows, y)
        x = math.sqrt(self.frame) * idct(spectrum) * self.signs.to(y.dtype)
        return x.reshape(-1, *self.known_shape)

    def extra_repr(self) -> str:
        return f"m={self.m}, n={self.n}"


def _twiddle(n: int, like: Tensor) -> Tensor:
    k = torch.arange(n, dtype=torch.float64, device=like.device)
    scale = torch.full_like(k, math.sqrt(2 / n))
    scale[0] = math.sqrt(1 / n)
    turn = torch.polar(scale, -math.pi * k / (2 * n))
    return turn.to(torch.complex128 if like.dtype == torch.float64 else torch.complex64)


def dct(x: Tensor) -> Tensor:
    """Orthonormal DCT-II along the last axis, by one FFT of the same length (Makhoul, 1980)."""
    n = x.shape[-1]
    v = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
    return (torch.fft.fft(v) * _twiddle(n, x)).real


def idct(s: Tensor) -> Tensor:
    """The inverse (and transpose) of `dct`."""
    n = s.shape[-1]
    # cos and sin parts: S_k - i S_{n-k} undoes the real part taken in the forward transform
    scaled = s * (1 / _twiddle(n, s).abs())
    mirrored = torch.cat([torch.zeros_like(s[..., :1]), scaled[..., 1:].flip(-1)], -1)
    turn = torch.polar(
        torch.ones(n, dtype=s.dtype, device=s.device),
        math.pi / (2 * n) * torch.arange(n, dtype=s.dtype, device=s.device),
    )
    v = torch.fft.ifft(torch.complex(scaled, -mirrored) * turn).real
    x = torch.empty_like(v)
    half = (n + 1) // 2
    x = x.index_copy(-1, torch.arange(0, n, 2, device=s.device), v[..., :half])
    return x.index_copy(-1, torch.arange(1, n, 2, device=s.device), v[..., half:].flip(-1))


class NamedCompressedSensing(Operator):
    """A few random projections of the whole image."""

    operator = CompressedSensing

    ratio: float = real(0.2, "Measurements per pixel.", above=0, high=1)
    m: int | None = whole(
        None, "Number of measurements.", 1, 2**31, auto="ratio times the numbers of an image",
        excludes=("ratio",), flag=False,
    )  # fmt: skip
    fast: bool | None = switch(
        None,
        "Orthogonal rows without a matrix.",
        auto="where a matrix would take 256 MB",
        flag=False,
    )
    seed: int = whole(0, "Of the projections.", *SEEDS)

    def build(self, shape):
        n = math.prod(shape)
        m = max(1, round(self.ratio * n)) if self.m is None else self.m
        fast = 4 * m * n > 2**28 if self.fast is None else self.fast
        return (FastCompressedSensing if fast else CompressedSensing)(m, shape, seed=self.seed)
