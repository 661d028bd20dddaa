"""A = line integrals through a slice: computed tomography with parallel or fan beams."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..catalog import Operator
from ..data.numbers import read_numbers
from ..data.scan_files import SINOGRAMS, read_sinogram
from ..errors import InputError, UsageError
from ..options import OptionError, anything, as_number, real, whole
from ..torch_private import transforms_active
from .back_projection import filtered_back_projection
from .base import LinearPhysics
from .footprints import Geometry, back_projection_matrix, converted, transposed
from .kept import Kept
from .scan import Scan, chosen_slice
from .transmission import TransmissionNoise, line_integrals


class Tomography(LinearPhysics):
    """y = line integrals of x along the rays of every view: a sinogram (B, C, views, detectors).

    The matrix is made once per geometry and kept sparse; the adjoint is its exact transpose. In
    pixels of the image as the unit of length, an integral over a pixel of value 1 is about 1.

    Args:
        image_shape: (C, H, W) of a slice.
        angles: of the views in degrees, or their number, spread evenly over 180 (parallel) or 360
            (fan beam).
        detectors: bins of the detector; by default as many as see the whole slice from everywhere.
        spacing: width of a bin in pixels of the image, > 0.
        centre: the bin, counted from 0, on which the axis of rotation falls; by default the middle.
        source, detector: fan beam: distances from the axis to the source and to the (flat)
            detector, in pixels; without ``source`` rays are parallel.
        noise: sigma or a noise model.

    Raises:
        UsageError: a geometry that cannot be: no views, radians for degrees, an axis off the
            detector, a source inside the slice.

    Example:
        >>> physics = Tomography((1, 16, 16), angles=12)
        >>> physics.A(torch.rand(1, 1, 16, 16)).shape
        torch.Size([1, 1, 12, 25])
    """

    acts_per_channel = True

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        angles: int | Sequence[float] | Tensor = 180,
        detectors: int | None = None,
        *,
        spacing: float = 1.0,
        centre: float | None = None,
        source: float | None = None,
        detector: float | None = None,
        noise=None,
    ):
        super().__init__(image_shape, noise)
        _, height, width = self.known_shape
        radius = 0.5 * math.hypot(height, width)
        if not spacing > 0:
            raise UsageError(f"spacing={spacing!r}: the width of a bin must be > 0 pixels")
        if source is not None and not source > radius:
            raise UsageError(
                f"source={source:g}: the source must be outside the slice, whose corners lie "
                f"{radius:.4g} pixels from the axis"
            )
        if detector is not None and (source is None or not detector >= 0):
            raise UsageError(f"detector={detector!r}: give a distance >= 0 together with source")
        detector = 0.0 if detector is None else float(detector)
        magnification = (
            1.0 if source is None else (source + detector) / math.sqrt(source**2 - radius**2)
        )
        whole = 2 * math.ceil(radius * magnification / spacing) + 1
        detectors = whole if detectors is None else detectors
        if not (isinstance(detectors, numbers.Integral) and detectors >= 1):
            raise UsageError(f"detectors={detectors!r}: give a whole number of bins")
        centre = (detectors - 1) / 2 if centre is None else float(centre)
        if not 0 <= centre <= detectors - 1:
            raise UsageError(
                f"centre={centre:g}: the axis must fall on one of the bins 0 to {detectors - 1}"
            )
        self.geometry = Geometry(
            (height, width),
            _degrees(angles, 180.0 if source is None else 360.0),
            detectors,
            float(spacing),
            centre,
            None if source is None else float(source),
            detector,
        )

    @property
    def angles(self) -> Tensor:
        """Of the views, in degrees."""
        return torch.tensor(self.geometry.angles, dtype=torch.float64)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x)
        y = _Sparse.apply(x.flatten(2), self._pair(x), False)
        return y.unflatten(2, (len(self.geometry.angles), self.geometry.detectors))

    def A_adjoint(self, y: Tensor) -> Tensor:
        self._check_sinogram(y)
        x = _Sparse.apply(y.flatten(2), self._pair(y), True)
        return x.unflatten(2, self.geometry.size)

    def _pair(self, like: Tensor) -> Callable[[bool], Tensor]:
        return _pair(self.geometry, like.dtype, like.device).__getitem__

    def filtered_back_projection(
        self, y: Tensor, filter: str = "ramp", cutoff: float = 1.0
    ) -> Tensor:
        """The classical reconstruction from views all around (Kak & Slaney 1988, chapter 3).

        Args:
            y: sinograms (B, C, views, detectors).
            filter: ``"ramp"``, or softer ``"shepp-logan"``, ``"cosine"``, ``"hamming"``, ``"hann"``.
            cutoff: share of the frequencies that are kept, in (0, 1].

        Views may be unevenly spread; those of a fan beam count as parts of a full turn.
        """
        self._check_sinogram(y)
        if not 0 < cutoff <= 1:
            raise UsageError(f"cutoff={cutoff:g}: must be above 0 and at most 1")
        return filtered_back_projection(self.geometry, y, filter, cutoff)

    def classical(self, y: Tensor) -> Tensor:
        return self.filtered_back_projection(y)

    def doubts(self, y: Tensor) -> list[str]:
        """Whether parallel views see the middle of the mass turn about the axis of rotation, as any
        body's does that lies within the detector's sight."""
        g = self.geometry
        total = y.double().sum((0, 1, 3))
        if g.source is not None or len(total) < 8 or not total.mean() > 10 * total.std():
            return []
        found, off = axis_of_rotation(y, g.angles)
        least = max(2.0, 0.01 * g.detectors)
        if off > least:
            strays = f"the middle of the body strays by {off:.2g} bins"
            return [
                f"the views do not turn by their angles ({strays}): are these degrees, in order?"
            ]
        if abs(found - g.centre) > least:
            said = f"the axis is taken to fall on bin {g.centre:g}"
            return [
                f"the body turns about bin {found:.4g} of the detector, but {said}: give centre"
            ]
        return []

    def _preconditioner(self, like: Tensor, rho: Tensor):
        """1 / (c / |frequency| + rho), what A^T A nearly is with views all around."""
        height, width = self.geometry.size
        rows = torch.fft.fftfreq(2 * height, dtype=like.dtype, device=like.device)[:, None]
        columns = torch.fft.rfftfreq(2 * width, dtype=like.dtype, device=like.device)[None, :]
        radial = (rows.square() + columns.square()).sqrt().clamp_min(0.25 / max(height, width))
        views = len(self.geometry.angles) / (math.pi * self.geometry.spacing)
        eigenvalues = views / radial

        def apply(r: Tensor) -> Tensor:
            spectrum = torch.fft.rfft2(r, (2 * height, 2 * width))
            spectrum = spectrum / (eigenvalues + rho)
            return torch.fft.irfft2(spectrum, (2 * height, 2 * width))[..., :height, :width]

        return apply

    def _check_sinogram(self, y: Tensor) -> None:
        g = self.geometry
        self.check_data(y, (self.known_shape[0], len(g.angles), g.detectors))

    def extra_repr(self) -> str:
        g = self.geometry
        beam = "parallel" if g.source is None else "fan"
        return f"{g.size[0]}x{g.size[1]}, {len(g.angles)} {beam} views, {g.detectors} detectors"


def _degrees(angles, turn: float) -> tuple[float, ...]:
    if isinstance(angles, numbers.Integral):  # also numpy's, of which one view would be made below
        if angles < 1:
            raise UsageError(f"angles={angles}: give at least one view")
        return tuple(turn * k / angles for k in range(angles))
    angles = torch.as_tensor(angles, dtype=torch.float64).flatten()
    if angles.numel() == 0:
        raise UsageError("angles is empty: give at least one view")
    if not bool(torch.isfinite(angles).all()):
        raise InputError("the angles contain NaN or Inf")
    if len(angles) > 8 and float(angles.abs().max()) <= 2 * math.pi + 1e-6:
        raise UsageError(
            f"{len(angles)} angles up to {float(angles.abs().max()):.3g}: they look like radians; "
            "give degrees"
        )
    return tuple(angles.tolist())


def axis_of_rotation(y: Tensor, angles: Sequence[float] | Tensor) -> tuple[float, float]:
    """The bin on which the axis falls, from parallel views (..., views, detectors).

    The middle of the mass of a view moves as c + a cos + b sin of its angle (degrees); the least
    squares fit gives c.

    Returns:
        c, counted from 0, and how far the middles stray from the fit, root mean square, in bins.

    Example:
        >>> physics = Tomography((1, 32, 32), 30, 64, centre=28.5)
        >>> found, off = axis_of_rotation(physics.A(torch.rand(1, 1, 32, 32)), physics.angles)
        >>> round(found, 1), off < 0.1
        (28.5, True)
    """
    views = y.detach().double().flatten(0, -3).sum(0)
    bins = torch.arange(views.shape[-1], dtype=torch.float64, device=views.device)
    middles = (views * bins).sum(1, keepdim=True) / views.sum(1, keepdim=True)
    turn = torch.as_tensor(angles, dtype=torch.float64, device=views.device).deg2rad()
    waves = torch.stack((torch.ones_like(turn), turn.cos(), turn.sin()), 1)
    fit = torch.linalg.pinv(waves) @ middles
    return float(fit[0]), float((waves @ fit - middles).square().mean().sqrt())


class _Sparse(torch.autograd.Function):
    """x (B, C, n) times ``pair(back)``, a matrix or its transpose; the gradient is the other one's.

    A function holds the pair, and `setup_context` stands apart: torch.func takes no sparse tensors.
    """

    @staticmethod
    def forward(x, pair, back):
        batch, channels, n = x.shape
        return (pair(back) @ x.reshape(-1, n).T).T.reshape(batch, channels, -1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.pair, ctx.back = inputs

    @staticmethod
    def backward(ctx, *grads):
        return _Sparse.apply(grads[0], ctx.pair, not ctx.back), None, None


_ADVICE = {"strength": 1.0}  # of a tooth (benchmarks/restoration.py --only ct)
_PAIRS = Kept(2**30)


def _pair(geometry: Geometry, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The matrix of the line integrals, and its transpose; of every type those that are there
    already in another, since both are made in float32."""

    def make() -> tuple[Tensor, Tensor]:
        with warnings.catch_warnings():  # PyTorch calls its sparse matrices a beta, and unchecked
            warnings.filterwarnings(
                "ignore", message="Sparse (CSR tensor support|invariant checks)"
            )
            there = next((pair for (g, *_), pair in [*_PAIRS.found.items()] if g == geometry), None)
            if there is None:
                back = back_projection_matrix(geometry)
                there = transposed(back), back
            return converted(there[0], dtype, device), converted(there[1], dtype, device)

    key = geometry, dtype, device
    if transforms_active():  # under which no sparse tensor can be made: another thread is outside
        with ThreadPoolExecutor(1) as outside:
            return outside.submit(_PAIRS, key, make).result()
    return _PAIRS(key, make)


class NamedTomography(Operator):
    """Line integrals through a slice: a sinogram of parallel or fan beams."""

    operator = Tomography

    reads = SINOGRAMS

    angles: int | str | Sequence[float] | None = anything(
        None,
        "Views: their number, degrees with commas between, or a .npy, .csv or .txt of degrees.",
        auto="those of the file, or 180",
    )
    span: float = real(
        None, "Degrees over which a number of views is spread evenly.", above=0, high=360,
        auto="180, fan beam: 360",
    )  # fmt: skip
    detectors: int | None = whole(
        None, "Bins of the detector.", auto="as many as see the whole slice"
    )
    spacing: float = real(1.0, "Width of a bin in pixels.", above=0)
    centre: float | None = real(
        None, "Bin, from 0, on which the axis of rotation falls.", low=0,
        auto="the middle; of a file, where its body turns",
    )  # fmt: skip
    source: float | None = real(
        None, "Fan beam: pixels from the axis of rotation to the source.", above=0, auto="parallel"
    )
    detector: float | None = real(
        None, "Fan beam: pixels from the axis of rotation to the detector.", low=0, auto="0"
    )
    every: int = whole(1, "Of a file only every so many-th view; all of them are the reference.")
    binning: int = whole(
        1, "Bins of a file's detector that are counted together; centre and lengths stay those of the "
        "file's bins.",
    )  # fmt: skip
    slice: int | None = whole(None, "Of a file with several, from 0.", low=0, auto="the middle")
    unit: float | None = real(
        None,
        "Attenuation of a pixel that is shown white, of a file.",
        above=0,
        auto="its brightest",
    )

    def build(self, shape):
        return Tomography(
            shape,
            self._views(),
            self.detectors,
            spacing=self.spacing,
            centre=self.centre,
            source=self.source,
            detector=self.detector,
        )

    def scan(self, path: Path) -> Scan:
        file = read_sinogram(path)
        if file.flat is None:
            raise InputError(f"{path} has no frames of the open beam (exchange/data_white)")
        at, notes = chosen_slice(self.slice, len(file.counts), path), []
        frames = [file.counts[at], file.flat[:, at], 0.0 if file.dark is None else file.dark[:, at]]
        y, noise = line_integrals(*(self._binned(frame) for frame in frames))
        if self.angles is None and file.angles is None:
            raise OptionError("", f"{path} has no exchange/theta: give ", "angles")
        if len(file.flat) < 2 or not np.ptp(file.flat[:, at], axis=0).any():
            notes.append("a count is taken for a photon: frames of the open beam alike do not tell")
        angles = torch.tensor(file.angles if self.angles is None else self._views())
        if len(angles) != len(y):
            raise OptionError("angles", f": {len(angles)} for the {len(y)} views of {path}")
        y, bins = y[None, None], y.shape[-1]
        lengths = {"source": self.source, "detector": self.detector}
        fan = {name: far and far / self.binning for name, far in lengths.items()}
        centre = self.centre
        if centre is not None:
            centre = (centre + 0.5) / self.binning - 0.5
        elif self.source is None:
            centre, _ = axis_of_rotation(y, angles)
            if not 0 <= centre < bins:
                raise InputError(
                    f"{path}: the body seems to turn about bin {centre:.4g} of {bins}: are its angles "
                    "right? Else give the option centre"
                )
            notes.append(f"the axis of rotation falls on bin {centre:.2f} of {bins}")

        def tomography(every: int) -> Tomography:
            views = angles[::every]
            shape = (1, bins, bins)
            return Tomography(shape, views, bins, spacing=self.spacing, centre=centre, **fan)

        physics = tomography(self.every)
        thin = y[:, :, :: self.every]
        unit = self.unit or float(physics.classical(thin).flatten().quantile(0.999))
        if not unit > 0:
            raise InputError(
                f"{path} shows no body: its line integrals are {float(y.mean()):.2g} on average"
            )
        full = tomography(1).classical(y / unit) if self.every > 1 else None
        physics.noise, physics.advice = TransmissionNoise(noise.photons, unit), _ADVICE
        return Scan(
            (thin / unit).float(), physics, unit, None if full is None else full.float(), notes
        )

    def _binned(self, frame) -> Tensor:
        frame = torch.as_tensor(frame)
        if self.binning == 1 or not frame.ndim:
            return frame * self.binning
        whole = frame.shape[-1] // self.binning * self.binning
        if not whole:
            raise OptionError(
                "binning", f" {self.binning}: the detector has {frame.shape[-1]} bins"
            )
        return frame[..., :whole].unflatten(-1, (-1, self.binning)).sum(-1)

    def _views(self) -> tuple[float, ...]:
        return _degrees(
            _listed(self.angles), self.span or (180.0 if self.source is None else 360.0)
        )


def _listed(angles) -> int | Sequence[float] | Tensor:
    """What the option ``angles`` says: a number of views, or all of them in degrees."""
    if isinstance(angles, str):
        number = as_number(angles)
        if number is not None and number == int(number):
            return int(number)
        if "," not in angles:
            return torch.tensor(read_numbers(Path(angles))).flatten()
        found = [as_number(part) for part in angles.split(",")]
        if None in found:
            raise OptionError("angles", f"={angles}: give a number, degrees with commas, or a file")
        return torch.tensor(found, dtype=torch.float64)
    return 180 if angles is None else angles
