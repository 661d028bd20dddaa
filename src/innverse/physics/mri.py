"""A = multi-coil magnetic resonance: every coil sees the image under its own sensitivity."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.npy import load_numpy
from ..data.scan_files import KSPACES, read_kspace
from ..errors import InputError, ShapeError, UsageError
from ..options import anything, real, switch, whole
from .calibration import calibration_images, calibration_region, calibration_size, with_phase
from .espirit import espirit_maps
from .fourier import OF_PARTS, KSpace, NamedFourier, as_channels, as_complex, fft, ifft
from .noise import GaussianNoise
from .scan import Scan, chosen_slice


class MRI(KSpace):
    """y_j = mask * F (S_j x) for the coils j, with the orthonormal, centred Fourier transform F.

    Complex numbers are pairs of channels, as in deepinv: a measurement is (B, 2 coils, H, W), first
    all real parts, then all imaginary ones; see `as_channels`. With ``complex_image`` the image is
    complex too, (B, 2, H, W); without, it is real, (B, 1, H, W), and its phase belongs to the
    sensitivities (`estimate_sensitivities` with ``phase=True`` puts it there), which halves the
    unknowns and completes half-measured k-space.

    Several sets of sensitivities (`espirit_maps`) are for a body larger than the field of view, which
    folds: images have a channel for each, and the coils see their sum.

    Args:
        sensitivities: (coils, H, W), complex; or (sets, coils, H, W).
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
        if s.ndim not in (3, 4) or not s.is_complex():
            raise InputError(
                "sensitivities must be complex, (coils, H, W) or (sets, coils, H, W), got "
                f"{s.dtype} of shape {tuple(s.shape)}"
            )
        sets, size = (len(s) if s.ndim == 4 else 1), tuple(s.shape[-2:])
        if tuple(mask.shape) != size:
            raise ShapeError(f"the mask {tuple(mask.shape)} does not fit coils of {size} pixels")
        mask = mask.to(s.real.dtype)
        if not bool(torch.isfinite(torch.view_as_real(s)).all() & torch.isfinite(mask).all()):
            raise InputError("the sensitivities or the mask contain NaN or Inf")
        super().__init__(((2 if complex_image else 1) * sets, *size), noise)
        self.complex_image, self.image_range = complex_image, OF_PARTS if complex_image else None
        # real parts and imaginary parts: a module moves and casts them like its other buffers
        self.register_buffer("sensitivities", torch.view_as_real(s.resolve_conj()).clone())
        self.register_buffer("mask", mask[None, None])

    @property
    def coils(self) -> int:
        return self.sensitivities.shape[-4]

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return as_channels(self._mask(x) * fft(self.coil_images(x)))

    def A_adjoint(self, y: Tensor) -> Tensor:
        self.check_data(y, (2 * self.coils, *self.known_shape[1:]))
        return self.combined(ifft(self._mask(y) * as_complex(y)))

    def coil_images(self, x: Tensor) -> Tensor:
        """What the coils see of x, (B, coils, H, W), complex."""
        s, image = self._coils(x), as_complex(x) if self.complex_image else x
        return s * image if s.ndim == 3 else (s * image.unsqueeze(2)).sum(1)

    def combined(self, images: Tensor) -> Tensor:
        """sum_j conj(S_j) image_j of what the coils see, an image: the adjoint of `coil_images`."""
        s = self._coils(images.real).conj()
        if s.ndim == 3:
            return self._to_image((s * images).sum(1, keepdim=True))
        return self._to_image((s * images.unsqueeze(1)).sum(2))

    def classical(self, y: Tensor) -> Tensor:
        """The coils put together, what was not measured taken for zero."""
        return self.A_adjoint(y)

    def as_picture(self, x: Tensor) -> Tensor:
        """Of several sets what the coils see of all of them, as their root sum of squares."""
        s = self._coils(x)
        if s.ndim == 3:
            return super().as_picture(x)
        among_sets = torch.einsum("ajhw, bjhw -> abhw", s.conj(), s)  # instead of all coil images
        image = as_complex(x) if self.complex_image else x.to(s.dtype)
        power = torch.einsum("nahw, abhw, nbhw -> nhw", image.conj(), among_sets, image)
        return power.real.clamp_min(0).sqrt()[:, None]

    def _coils(self, like: Tensor) -> Tensor:
        return torch.view_as_complex(self.sensitivities.to(like.dtype))

    def extra_repr(self) -> str:
        _, height, width = self.known_shape
        share = self.mask.bool().double().mean()
        return f"{self.coils} coils, {height}x{width}, {100 * share:.0f} % measured"


def root_sum_of_squares(kspace: Tensor) -> Tensor:
    """The usual picture of k-space (B, coils, H, W): (B, 1, H, W), without sensitivities.

    Example:
        >>> kspace = torch.ones(1, 4, 8, 8, dtype=torch.complex64)
        >>> root_sum_of_squares(kspace).shape
        torch.Size([1, 1, 8, 8])
    """
    return ifft(kspace).abs().square().sum(1, keepdim=True).sqrt()


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
    if around < 1 or around % 2 == 0:
        raise UsageError(f"around={around}: give an odd number of pixels")
    images = calibration_images(kspace, calibration_region(kspace, calibration))
    coils, height, width = kspace.shape
    # covariance of the coils, averaged over the neighbourhood of every pixel
    pairs = (images[:, None] * images[None].conj()).flatten(0, 1)
    mean = torch.complex(_box(pairs.real, around), _box(pairs.imag, around))
    covariance = mean.view(coils, coils, -1).permute(2, 0, 1)
    _, vectors = torch.linalg.eigh(covariance)
    s = vectors[..., -1].T.reshape(coils, height, width)
    return with_phase(s, images, phase)


def _box(planes: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(planes, side, 1, side // 2, count_include_pad=False)


WALSH, ESPIRIT = "walsh", "espirit"  # ways to estimate sensitivities
# In units of a white pixel. The phase is that of the middle of k-space: where it turns faster, the real
# image is negative.
_REAL_IMAGES, _COMPLEX_IMAGES = (-0.5, 1.5), (-1.5, 1.5)
# Of a head (benchmarks/restoration.py --only mri --tune): what real images do not tell of it is more
# than the noise, and the prior is held stronger for it.
ADVICE_REAL, ADVICE_COMPLEX = {"strength": 10.0, "consistency": 4.0}, {"consistency": 1.0}
ADVICE_NOISY = {"consistency": 0.0}  # of complex images
_NOISY = 0.025  # of a white pixel, of a coil
_FOLDED = 0.8  # second eigenvalue, from which a place is one of two that share a pixel
_LEAST = 8  # lines around the middle, below which sensitivities cannot be told


class NamedMRI(NamedFourier):
    """Magnetic resonance with several coils; of simulations their sensitivities are simulated."""

    operator = MRI
    reads = KSPACES

    coils: int = whole(8, "Coils around the image, of a simulation.", 1, 256)
    sensitivities: str | Tensor | None = anything(
        None, "Of the coils: a .npy (coils, H, W), complex; or walsh or espirit, by which those of a "
        "file are estimated from its middle.",
        auto="simulated; of a file, the way that explains more of it",
    )  # fmt: skip
    calibration: int = whole(
        24,
        "Lines around the middle that are kept, and of which sensitivities are estimated.",
        _LEAST,
    )
    every: int = whole(
        1,
        "Of a file only every so many-th measured line, besides the middle; all are the reference.",
    )
    sets: int | None = whole(
        None, "Of sensitivities by espirit; 2 of a body wider than the field of view, which folds.",
        1, 2,
        auto="what explains more of a file",
    )  # fmt: skip
    slice: int | None = whole(None, "Of a file with several, from 0.", low=0, auto="the middle")
    complex_image: bool | None = switch(
        None, "Images have a phase of their own, two channels, besides that of the middle.",
        auto="of a file whose lines lie on both sides of the middle",
    )  # fmt: skip
    unit: float | None = real(
        None, "Magnitude of a pixel that is shown white, of a file.", above=0, auto="its brightest"
    )

    def build(self, shape):
        if shape[0] not in (1, 2):
            raise ShapeError(
                f"mri measures gray images, (1, H, W), or complex ones, (2, H, W), not {shape}: "
                "take a prior of gray images"
            )
        s = self._sensitivities()
        s = simulated_sensitivities(self.coils, shape[-2:]) if s is None else s
        return MRI(s, self.measured(shape[-2:]), complex_image=shape[0] == 2)

    def scan(self, path: Path) -> Scan:
        file = read_kspace(path)
        k = torch.from_numpy(file.values[chosen_slice(self.slice, len(file.values), path)])
        k = k if file.size is None else _without_oversampling(k, file.size[0])
        coils, height, width = k.shape
        _check_middle(k, path)
        lines = (k != 0).any(0).any(0)
        if not bool(lines.any()):
            raise InputError(f"{path} holds nothing but zeros")
        kept = _thinned(lines, self.every, self.calibration)
        mask = (kept & (k != 0).any(0)).to(torch.float32)
        thin = k * mask
        given = self._sensitivities()
        found = self._estimated(thin, mask, path) if given is None else [given]
        if found[0].shape[-3:] != k.shape:
            raise ShapeError(
                f"the sensitivities {tuple(found[0].shape)} do not fit the k-space of {path}, "
                f"{coils} coils of {height}x{width}"
            )
        # of complex images too much may be open to tell
        s = min(found, key=lambda s: float(_unexplained(MRI(s, mask), thin).norm()))
        parts = self.complex_image
        parts = _on_both_sides(lines) if parts is None else parts
        unit = self.unit or float(root_sum_of_squares(thin[None]).flatten().quantile(0.999))
        physics = MRI(s, mask, parts)
        physics.image_range = _COMPLEX_IMAGES if parts else _REAL_IMAGES
        sigma = torch.maximum(_noise_of_coils(thin), _unexplained(physics, thin)) / unit
        physics.noise = GaussianNoise(torch.cat((sigma, sigma)).view(-1, 1, 1))
        of_complex = ADVICE_NOISY if float(sigma.mean()) >= _NOISY else ADVICE_COMPLEX
        physics.advice = of_complex if parts else ADVICE_REAL
        everything = MRI(s, (k != 0).any(0), parts)
        full = everything.classical(as_channels(k[None] / unit)) if self.every > 1 else None
        notes = [
            f"{int(mask.any(0).sum())} of {width} lines are used, of {int(lines.sum())} measured"
        ]
        if s.ndim == 4 and given is None:
            notes.append(
                "the body is wider than the field of view and folds: two images, each with coils of "
                "its own (sets=2), of which the picture is the root sum of squares"
            )
        return Scan(as_channels(thin[None] / unit), physics, unit, full, notes)

    def _estimated(self, kspace: Tensor, mask: Tensor, path: Path) -> list[Tensor]:
        """Sensitivities by the way that is asked for, or by each."""
        rows, columns = calibration_size(mask)
        block = min(rows, self.calibration), min(columns, self.calibration)
        if min(block) < _LEAST:
            raise InputError(
                f"{path}: only {min(block)} calibration lines around the middle of k-space were "
                f"measured, too few to estimate how the coils see: it takes {_LEAST}, or the "
                "option sensitivities"
            )
        if self.sets == 2 and self.sensitivities == WALSH:
            raise UsageError("sets=2: only espirit tells two sets of sensitivities apart")
        found = []  # with the phase of the middle: what complex images have besides is smooth
        if self.sensitivities != ESPIRIT and self.sets != 2:
            found.append(estimate_sensitivities(kspace, block, phase=True))
        if self.sensitivities != WALSH:
            maps, eigenvalues = espirit_maps(kspace, block, phase=True, crop=0.0, sets=2)
            # what no coil saw would be made up by a prior: there the first set goes on
            second = torch.where(eigenvalues[1] >= _FOLDED, maps[1], 0)
            both = maps[0], torch.stack((maps[0], second))
            found += both if self.sets is None else [both[self.sets - 1]]
        return found

    def _sensitivities(self) -> Tensor | None:
        given = self.sensitivities
        if isinstance(given, str) and given in (WALSH, ESPIRIT):
            return None
        if isinstance(given, str):
            given = torch.tensor(load_numpy(Path(given)))
        return given


def _noise_of_coils(kspace: Tensor) -> Tensor:
    """Standard deviation of the noise in either part of k-space (coils, H, W), (coils,).

    From the highest frequencies that were measured, where the image is least: the median of their
    power, 2 ln 2 sigma^2 for noise alone.
    """
    lines = (kspace != 0).any(0).any(0).nonzero().flatten()
    outer = torch.cat((lines[: max(1, len(lines) // 8)], lines[-max(1, len(lines) // 8) :]))
    rows = max(1, kspace.shape[-2] // 8)
    power = kspace[:, :, outer].abs().square()
    ends = torch.cat((power[:, :rows], power[:, -rows:]), 1).flatten(1)
    return (ends.median(1).values / (2 * math.log(2))).sqrt()


@torch.no_grad()
def _unexplained(physics: MRI, kspace: Tensor) -> Tensor:
    """Root mean square, in either part, of what no image explains of k-space (coils, H, W): noise, and
    what the sensitivities do not tell; (coils,), 0 where there are no more measurements than pixels.
    """
    y = as_channels(kspace[None])
    count = 2 * physics.coils * int((physics.mask != 0).sum())
    free = 1 - math.prod(physics.known_shape) / count
    if free < 0.1:
        return kspace.new_zeros(len(kspace)).real
    like = physics.A_adjoint(y)
    x = physics.solve_normal(like, 1e-3, tol=1e-2, max_iter=100)
    rest = as_complex(y - physics.A(x))[0].abs().square().sum((1, 2))
    return (rest * physics.coils / (count * free)).sqrt()


def _on_both_sides(lines: Tensor) -> bool:
    """Whether the measured ``lines`` (W,) reach about as far before the middle as behind. What lies on
    one side only is completed by the other, if images are real."""
    at = lines.nonzero().flatten() - len(lines) // 2
    before, behind = -int(at[0]), int(at[-1]) + 1
    return min(before, behind) > 0.8 * max(before, behind)


def _check_middle(k: Tensor, path: Path) -> None:
    """
    Raises:
        InputError: k-space (coils, H, W) whose low frequencies lie in the corners.
    """
    power = k.abs().square().sum(0)
    (height, width), total = power.shape, float(power.sum())
    box = slice(3 * height // 8, -(3 * height // 8)), slice(3 * width // 8, -(3 * width // 8))
    middle, corners = float(power[box].sum()), float(torch.fft.fftshift(power)[box].sum())
    if corners > 4 * middle and corners > 0.5 * total:
        raise InputError(
            f"{path}: the low frequencies of its k-space lie in the corners: shift them into the "
            "middle (fftshift)"
        )


def _thinned(lines: Tensor, every: int, calibration: int) -> Tensor:
    """Every so many-th of the measured ``lines`` (W,), and those around the middle."""
    kept = torch.zeros_like(lines)
    kept[lines.nonzero().flatten()[::every]] = True
    middle = len(lines) // 2
    kept[max(0, middle - calibration // 2) : middle + (calibration + 1) // 2] = True
    return kept & lines


def _without_oversampling(k: Tensor, height: int) -> Tensor:
    """Coils (coils, H, W) cut to the middle ``height`` rows of the picture: what is read out beyond
    the field of view."""
    top = (k.shape[-2] - height) // 2
    if top <= 0:
        return k
    measured = (k != 0).any(0).any(0)
    return fft(ifft(k)[:, top : top + height]) * measured


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
