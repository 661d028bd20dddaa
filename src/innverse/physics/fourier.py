"""A = a subset of the Fourier coefficients: single-coil MRI."""

from __future__ import annotations

import torch
from torch import Tensor

from ..catalog import Operator
from ..data.masks import read_mask
from ..errors import ShapeError, UsageError
from ..options import SEEDS, anything, real, whole
from .base import checked_shape, per_item
from .mask import Masked, as_weights


def as_channels(k: Tensor) -> Tensor:
    """Complex (B, C, H, W) to real (B, 2 C, H, W): real parts first, then imaginary ones."""
    return torch.cat((k.real, k.imag), 1)


# The range of the parts of complex images whose magnitude is at most 1
OF_PARTS = (-1.0, 1.0)


def as_complex(y: Tensor) -> Tensor:
    """The inverse of `as_channels`."""
    return torch.complex(*(part.contiguous() for part in y.chunk(2, 1)))


def fft(x: Tensor) -> Tensor:
    """The orthonormal transform of the last two axes, low frequencies in the middle."""
    k = torch.fft.fft2(torch.fft.ifftshift(x, (-2, -1)), norm="ortho")
    return torch.fft.fftshift(k, (-2, -1))


def ifft(k: Tensor) -> Tensor:
    """The inverse of `fft`."""
    x = torch.fft.ifft2(torch.fft.ifftshift(k, (-2, -1)), norm="ortho")
    return torch.fft.fftshift(x, (-2, -1))


class KSpace(Masked):
    """Fourier coefficients where the mask is not zero, of real images or with ``complex_image`` of
    complex ones; complex numbers are pairs of channels."""

    def doubts(self, y: Tensor) -> list[str]:
        """Whether whole lines of the mask hold exact zeros beside noise, or much lies beyond it."""
        sigma = self.sigma
        if sigma is None or not bool((torch.as_tensor(sigma) > 0).all()):
            return []
        mask, power = self.mask.ne(0).flatten(0, 1).any(0), y.square().sum((0, 1))
        empty = max(int((mask.any(d) & ~(mask & (power > 0)).any(d)).sum()) for d in (0, 1))
        noise = y.shape[0] * y.shape[1] * float(torch.as_tensor(sigma).square().mean())
        beyond = float(power[~mask].sum()) > 4 * noise * int((~mask).sum())
        if not empty and not beyond:
            return []
        what = (
            f"{empty} lines of the mask hold zeros alone" if empty else "much lies beyond the mask"
        )
        return [f"the mask is not that of this k-space ({what}): give its mask"]

    def _to_complex(self, x: Tensor) -> Tensor:
        return as_complex(x) if self.complex_image else torch.complex(x, torch.zeros_like(x))

    def _to_image(self, x: Tensor) -> Tensor:
        return as_channels(x) if self.complex_image else x.real


class SubsampledFourier(KSpace):
    """y = mask * F x with the orthonormal, centred 2-D Fourier transform F.

    As in deepinv, complex numbers are two channels (real, imaginary) and low frequencies lie in the
    middle of the mask. An image of C real channels gives (B, 2 C, H, W), first all real parts, then
    all imaginary ones; with ``complex_image=True`` the image itself is complex, (B, 2, H, W).

    Args:
        mask: 1 = measured; (H, W), (1, H, W) or one per item (B, 1, H, W).
        complex_image: whether images are complex, two channels.
        noise: sigma (of each of the two parts) or a noise model.
        image_shape: (C, H, W); defaults to one channel of the mask's size (two if complex).

    Example:
        >>> physics = SubsampledFourier(cartesian_mask((8, 8), 2.0))
        >>> y = physics.A(torch.rand(1, 1, 8, 8))
        >>> physics.A_adjoint(y).shape
        torch.Size([1, 1, 8, 8])
    """

    direct = True

    def __init__(self, mask: Tensor, complex_image=False, noise=None, image_shape=None):
        mask = as_weights(mask, "Fourier mask")
        if mask.ndim not in (2, 3, 4) or (mask.ndim > 2 and mask.shape[-3] != 1):
            raise ShapeError(
                f"a Fourier mask has shape (H, W), (1, H, W) or (B, 1, H, W), got "
                f"{tuple(mask.shape)}"
            )
        mask = mask.reshape(*[1] * (4 - mask.ndim), *mask.shape)
        if image_shape is None:
            image_shape = (2 if complex_image else 1, *mask.shape[-2:])
        image_shape = checked_shape(image_shape)
        if complex_image and image_shape[0] != 2:
            raise ShapeError(f"a complex image has 2 channels, got image_shape {image_shape}")
        if tuple(image_shape[-2:]) != tuple(mask.shape[-2:]):
            raise ShapeError(
                f"the mask {tuple(mask.shape[-2:])} does not fit images of {tuple(image_shape)}"
            )
        super().__init__(image_shape, noise)
        self.complex_image, self.image_range = complex_image, OF_PARTS if complex_image else None
        self.register_buffer("mask", mask)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x, self.mask.shape[-2:])
        return as_channels(self._mask(x) * fft(self._to_complex(x)))

    def A_adjoint(self, y: Tensor) -> Tensor:
        c, h, w = self.known_shape
        self.check_data(y, (2 if self.complex_image else 2 * c, h, w))
        return self._back(as_complex(y) * self._mask(y))

    def norms_squared(self, x_shape, iters=30):
        return self._power(self.mask).flatten(1).amax(1)

    def A_dagger(self, y):
        power = self._power(y)
        k = fft(self._to_complex(self.A_adjoint(y)))
        return self._back(torch.where(power > 0, k / torch.where(power > 0, power, 1), 0))

    def solve_normal(self, rhs, rho, x0=None, **options):
        self.check_image(rhs, self.mask.shape[-2:])
        k = fft(self._to_complex(rhs))
        return self._back(k / (self._power(rhs) + per_item(rho, rhs)))

    def _power(self, like):
        """Eigenvalues of A^T A. A real image ties the frequencies k and -k together."""
        power = self._mask(like) ** 2
        if self.complex_image:
            return power
        h, w = power.shape[-2:]
        # in the centred layout, frequency -k of row i lies in row -i + 2 (h // 2)
        rows = (2 * (h // 2) - torch.arange(h, device=power.device)) % h
        columns = (2 * (w // 2) - torch.arange(w, device=power.device)) % w
        return 0.5 * (power + power[..., rows, :][..., columns])

    def _back(self, k):
        return self._to_image(ifft(k))


def cartesian_mask(size, acceleration: float = 4.0, center: float = 0.08, seed: int = 0) -> Tensor:
    """A random mask (H, W) of full columns, the usual one of fast MRI.

    Args:
        size: (H, W).
        acceleration: about 1 / (fraction of columns measured), >= 1.
        center: fraction of the columns, lowest frequencies first, that are always measured.
        seed: of the random columns.

    Example:
        >>> mask = cartesian_mask((64, 64), acceleration=4.0)
        >>> round(float(mask.float().mean()), 2)
        0.25
    """
    if not acceleration >= 1:
        raise UsageError(f"the acceleration must be >= 1, got {acceleration}")
    if not all(int(n) == n and n > 0 for n in size) or len(size) != 2:
        raise UsageError(f"the size of a mask is (H, W), whole numbers > 0, got {size!r}")
    if not 0 <= center <= 1:
        raise UsageError(f"the centre fraction must be in [0, 1], got {center}")
    height, width = size
    low = round(center * width)
    first = width // 2 - low // 2
    line = torch.zeros(width)
    line[first : first + low] = 1
    wanted = max(1, round(width / acceleration)) - low
    if wanted > 0:
        free = (line == 0).nonzero().flatten()
        order = torch.randperm(free.numel(), generator=torch.Generator().manual_seed(seed))
        line[free[order[:wanted]]] = 1
    return line.expand(height, width).clone()


class NamedFourier(Operator):
    """Some of the Fourier coefficients: magnetic resonance with one coil."""

    operator = SubsampledFourier
    complex_channels = True

    mask: str | Tensor | None = anything(
        None,
        "Picture of the frequencies, low ones in the middle, black = not measured.",
        excludes=("acceleration", "center", "seed"),
    )
    acceleration: float = real(4.0, "1 / fraction of the columns that are measured.", low=1)
    center: float = real(
        0.08, "Fraction of the columns around the middle that always are.", low=0, high=1
    )
    seed: int = whole(0, "Of the columns.", *SEEDS)

    def build(self, shape):
        return SubsampledFourier(self.measured(shape[-2:]), image_shape=shape)

    def measured(self, size: tuple[int, int]) -> Tensor:
        """The mask (H, W)."""
        if self.mask is None:
            return cartesian_mask(size, self.acceleration, self.center, self.seed)
        return read_mask(self.mask, size)[0]
