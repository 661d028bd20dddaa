"""A = multi-coil magnetic resonance: every coil sees the image under its own sensitivity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, ShapeError, UsageError
from ..options import whole
from .fourier import KSpace, NamedFourier, as_channels, as_complex, fft, ifft


class MRI(KSpace):
    """y_j = mask * F (S_j x) for the coils j, with the orthonormal, centred Fourier transform F.

    Complex numbers are pairs of channels, as in deepinv: a measurement is (B, 2 coils, H, W), first
    all real parts, then all imaginary ones; see `as_channels`. With ``complex_image`` the image is
    complex too, (B, 2, H, W); without, it is real, (B, 1, H, W), and its phase belongs to the
    sensitivities (`estimate_sensitivities` with ``phase=True`` puts it there), which halves the
    unknowns and completes half-measured k-space.

    Args:
        sensitivities: (coils, H, W), complex.
        mask: 1 = measured, (H, W).
        complex_image: whether images are complex, two channels.
        noise: sigma (of each of the two parts) or a noise model.

    Raises:
        ShapeError: a mask of another size than the sensitivities.
        InputError: NaN or Inf in them, or real ones.

    Example:
        >>> coils = torch.ones(2, 8, 8, dtype=torch.complex64) / 2**0.5
        >>> physics = MRI(coils, cartesian_mask((8, 8), 2.0))
        >>> check_adjoint(physics, torch.rand(1, 1, 8, 8)) < 1e-3
        True
    """

    sensitivities: Tensor

    def __init__(
        self, sensitivities: Tensor, mask: Tensor, complex_image: bool = False, noise=None
    ):
        s, mask = torch.as_tensor(sensitivities), torch.as_tensor(mask)
        if s.ndim != 3 or not s.is_complex():
            raise InputError(
                "sensitivities must be complex, (coils, H, W), got "
                f"{s.dtype} of shape {tuple(s.shape)}"
            )
        if tuple(mask.shape) != tuple(s.shape[1:]):
            raise ShapeError(
                f"the mask {tuple(mask.shape)} does not fit coils of {tuple(s.shape[1:])} pixels"
            )
        mask = mask.to(s.real.dtype)
        if not bool(torch.isfinite(torch.view_as_real(s)).all() & torch.isfinite(mask).all()):
            raise InputError("the sensitivities or the mask contain NaN or Inf")
        super().__init__((2 if complex_image else 1, *s.shape[1:]), noise)
        self.complex_image = complex_image
        # real parts and imaginary parts: a module moves and casts them like its other buffers
        self.register_buffer("sensitivities", torch.view_as_real(s.resolve_conj()).clone())
        self.register_buffer("mask", mask[None, None])

    @property
    def coils(self) -> int:
        return self.sensitivities.shape[0]

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        image = as_complex(x) if self.complex_image else x
        return as_channels(self._mask(x) * fft(self._coils(x) * image))

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_data(y, (2 * self.coils, *self.known_shape[1:]))
        x = self._coils(y).conj() * ifft(self._mask(y) * as_complex(y))
        return self._to_image(x.sum(1, keepdim=True))

    def _coils(self, like: Tensor) -> Tensor:
        return torch.view_as_complex(self.sensitivities.to(like.dtype))

    def extra_repr(self) -> str:
        _, height, width = self.known_shape
        share = self.mask.bool().double().mean()
        return f"{self.coils} coils, {height}x{width}, {100 * share:.0f} % measured"


def root_sum_of_squares(kspace: Tensor) -> Tensor:
    """The usual picture of k-space (B, coils, H, W): (B, 1, H, W), without sensitivities."""
    return ifft(kspace).abs().square().sum(1, keepdim=True).sqrt()


def calibration_size(mask: Tensor) -> tuple[int, int]:
    """Height and width of the largest fully measured block around the middle of a mask (H, W)."""
    height, width = mask.shape
    rows, columns = _run(mask.any(1)), _run(mask.any(0))
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    block = mask[top : top + rows, left : left + columns]
    if rows * columns == 0 or not bool((block != 0).all()):
        return 0, 0
    return rows, columns


def _run(line: Tensor) -> int:
    """The length of the run of ones around the middle."""
    ones = (line != 0).int()
    middle = len(ones) // 2
    after = int(ones[middle:].cumprod(0).sum())
    before = int(ones[:middle].flip(0).cumprod(0).sum())
    return min(2 * before + 1, 2 * after)


def estimate_sensitivities(
    kspace: Tensor, calibration: int | tuple[int, int] = 24, *, around: int = 7, phase: bool = False
) -> Tensor:
    """Coil sensitivities from the middle of k-space (Walsh, Gmitro & Marcellin 2000).

    Low-resolution coil images are compared within a neighbourhood of every pixel: the dominant
    direction among the coils is the sensitivity there, of unit length.

    Args:
        kspace: (coils, H, W), complex, centred, zero where it was not measured.
        calibration: lines around the middle, in both directions, that were fully measured.
        around: side of the neighbourhood in pixels, odd.
        phase: leave the phase of the image in the sensitivities, so that the image is real; else
            the first coil is real.

    Returns:
        (coils, H, W), complex, with sum |S_j|^2 = 1.

    Raises:
        InputError: lines of the calibration region were not measured.

    Example:
        >>> kspace = torch.fft.fft2(torch.rand(2, 32, 32))
        >>> estimate_sensitivities(kspace, calibration=16).shape
        torch.Size([2, 32, 32])
    """
    if kspace.ndim != 3 or not kspace.is_complex():
        raise InputError(
            f"k-space must be complex, (coils, H, W), got {kspace.dtype} {tuple(kspace.shape)}"
        )
    if around < 1 or around % 2 == 0:
        raise UsageError(f"around={around}: give an odd number of pixels")
    coils, height, width = kspace.shape
    rows, columns = (calibration, calibration) if isinstance(calibration, int) else calibration
    rows, columns = min(rows, height), min(columns, width)
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    window = torch.zeros(height, width, dtype=kspace.real.dtype)
    taper = [
        torch.hann_window(n + 2, periodic=False, dtype=window.dtype)[1:-1] for n in (rows, columns)
    ]
    window[top : top + rows, left : left + columns] = taper[0][:, None] * taper[1]
    block = kspace[:, top : top + rows, left : left + columns]
    missing = int((block.abs().sum(0) == 0).sum())
    if missing:
        raise InputError(
            f"{missing} of {rows * columns} frequencies of the {rows}x{columns} calibration region "
            "were not measured: choose a smaller calibration"
        )
    images = ifft(kspace * window.to(kspace.device))
    # covariance of the coils, averaged over the neighbourhood of every pixel
    pairs = (images[:, None] * images[None].conj()).flatten(0, 1)
    mean = torch.complex(_box(pairs.real, around), _box(pairs.imag, around))
    covariance = mean.view(coils, coils, -1).permute(2, 0, 1)
    _, vectors = torch.linalg.eigh(covariance)
    s = vectors[..., -1].T.reshape(coils, height, width)
    reference = (s.conj() * images).sum(0) if phase else s[0].conj()
    return s * torch.polar(torch.ones_like(reference.real), reference.angle())


def _box(planes: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(planes, side, 1, side // 2, count_include_pad=False)


class NamedMRI(NamedFourier):
    """Magnetic resonance with several coils, whose sensitivities are simulated."""

    operator = MRI

    coils: int = whole(8, "Coils around the image.", 1, 256)

    def build(self, shape):
        if shape[0] not in (1, 2):
            raise ShapeError(
                f"mri measures gray images, (1, H, W), or complex ones, (2, H, W), not {shape}: "
                "take a prior of gray images"
            )
        sensitivities = simulated_sensitivities(self.coils, shape[-2:])
        return MRI(sensitivities, self.measured(shape[-2:]), complex_image=shape[0] == 2)


def simulated_sensitivities(coils: int, size: tuple[int, int]) -> Tensor:
    """(coils, H, W), complex: coils on a circle around the image, with sum |S_j|^2 = 1.

    Each falls off smoothly with the distance from its coil, and its phase turns along it.
    """
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in size)
    angle = 2 * torch.pi * torch.arange(coils, dtype=torch.float64)[:, None, None] / coils
    across, down = x[None, None, :] - 1.2 * angle.cos(), y[None, :, None] - 1.2 * angle.sin()
    reach = torch.exp(-(across.square() + down.square()))
    s = torch.polar(reach, across * angle.cos() + down * angle.sin() + angle)
    return (s / s.abs().square().sum(0).sqrt()).to(torch.complex64)
