"""A = line integrals through a slice: computed tomography with parallel or fan beams."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ..catalog import Operator
from ..errors import InputError, UsageError
from ..options import real, whole
from .base import LinearPhysics
from .footprints import Geometry, back_projection_matrix, converted, transposed
from .kept import Kept

FILTERS = ("ramp", "hann", "shepp-logan")


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
        if not isinstance(detectors, int) or detectors < 1:
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
        y = _Sparse.apply(x.flatten(2), _pair(self.geometry, x.dtype, x.device), False)
        return y.unflatten(2, (len(self.geometry.angles), self.geometry.detectors))

    def A_adjoint(self, y: Tensor) -> Tensor:
        self._check_sinogram(y)
        x = _Sparse.apply(y.flatten(2), _pair(self.geometry, y.dtype, y.device), True)
        return x.unflatten(2, self.geometry.size)

    def filtered_back_projection(self, y: Tensor, filter: str = "ramp") -> Tensor:
        """The classical reconstruction from views all around (Kak & Slaney 1988, chapter 3).

        Args:
            y: sinograms (B, C, views, detectors).
            filter: ``"ramp"``, or softer ``"shepp-logan"`` or ``"hann"``.

        For a fan beam the rays are weighted as for views over a full turn.
        """
        self._check_sinogram(y)
        if filter not in FILTERS:
            raise UsageError(f"filter={filter!r}: choose one of {', '.join(FILTERS)}")
        g = self.geometry
        bins = (torch.arange(g.detectors, dtype=y.dtype, device=y.device) - g.centre) * g.spacing
        scale = math.pi / (len(g.angles) * g.spacing)
        if g.source is not None:
            reach = g.source + g.detector
            y = y * (reach / (reach**2 + bins**2).sqrt())
        n = 2 ** math.ceil(math.log2(2 * g.detectors))
        response = _response(n, filter).to(y)
        filtered = torch.fft.irfft(torch.fft.rfft(y, n) * response, n)[..., : g.detectors]
        return scale * self.A_adjoint(filtered)

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
    if isinstance(angles, int):
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


class _Sparse(torch.autograd.Function):
    """x (B, C, n) times a matrix or its transpose; the gradient is the other one of the pair."""

    @staticmethod
    def forward(ctx, x, pair, back):
        ctx.pair, ctx.back = pair, back
        batch, channels, n = x.shape
        return (pair[back] @ x.reshape(-1, n).T).T.reshape(batch, channels, -1)

    @staticmethod
    def backward(ctx, *grads):
        return _Sparse.apply(grads[0], ctx.pair, not ctx.back), None, None


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

    return _PAIRS((geometry, dtype, device), make)


def _response(n: int, filter: str) -> Tensor:
    """Of the ramp, band-limited in space so that the mean is right, times a window."""
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    kernel = torch.zeros(n, dtype=torch.float64)
    odd = k.abs().remainder(2) == 1
    kernel[odd] = -1 / (math.pi * k[odd]).square()
    kernel[0] = 0.25
    ramp = torch.fft.rfft(kernel).real
    frequency = torch.fft.rfftfreq(n, dtype=torch.float64)
    if filter == "hann":
        return ramp * 0.5 * (1 + torch.cos(2 * math.pi * frequency))
    return ramp * torch.sinc(frequency) if filter == "shepp-logan" else ramp


class NamedTomography(Operator):
    """Line integrals through a slice: a sinogram of parallel or fan beams."""

    operator = Tomography

    angles: int = whole(180, "Directions, spread evenly over 180 degrees (fan beam: 360).")
    detectors: int | None = whole(
        None, "Bins of the detector.", auto="as many as see the whole slice"
    )
    spacing: float = real(1.0, "Width of a bin in pixels.", above=0)
    source: float | None = real(
        None, "Fan beam: pixels from the axis of rotation to the source.", above=0, auto="parallel"
    )
    detector: float | None = real(
        None, "Fan beam: pixels from the axis of rotation to the detector.", low=0, auto="0"
    )

    def build(self, shape):
        return Tomography(
            shape,
            self.angles,
            self.detectors,
            spacing=self.spacing,
            source=self.source,
            detector=self.detector,
        )
