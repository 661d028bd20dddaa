"""Photons that get through: counts, line integrals, and the noise that counting leaves on these.

k ~ Poisson(I exp(-a T x)) photons of I are counted behind line integrals T x of an image whose value 1
absorbs a per pixel; y = -log(k / I) / a estimates T x.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InputError, ShapeError, UsageError
from ..shapes import tensor_of
from .noise import NoiseModel

_BAD = 5.0  # times the usual spread, from which on a bin is bad
_NONE = 0.5  # photons that stand for none, whose logarithm is needed


class TransmissionNoise(NoiseModel):
    """y = -log(k / photons) / absorption with k ~ Poisson(photons exp(-absorption A x)) counted.

    For most methods y is Gaussian with the standard deviation of each ray, the rate taken from a
    smooth reconstruction; the method "posterior" takes the likelihood of the counts themselves. A ray
    through which no photon came stands as half a photon, and counts as none.

    Args:
        photons: of each ray without a body, >= 0: one number, or a map that broadcasts against the
            sinogram, such as (views, detectors); 0 marks bins that do not see.
        absorption: of a pixel of value 1, > 0; line integrals count pixels.

    Raises:
        UsageError: numbers out of range.

    Example:
        >>> y = TransmissionNoise(1e4)(torch.full((1, 1, 60, 64), 2.0))
        >>> round(float(y.std()), 2)  # e / 100
        0.03
    """

    depends_on_signal = True
    photons: Tensor

    def __init__(self, photons: float | Tensor, absorption: float = 1.0):
        super().__init__()
        value = tensor_of(photons, "photons must be a number or a map", torch.float64)
        if value.numel() == 0 or not bool((value.isfinite() & (value >= 0)).all()):
            raise UsageError("photons of each ray must be finite and >= 0")
        if not bool((value > 0).any()):
            raise UsageError("photons is 0 for every ray: nothing was measured")
        if not 0 < absorption < math.inf:
            raise UsageError(f"absorption={absorption:g} must be a finite number > 0")
        self.absorption = float(absorption)
        self.register_buffer("photons", value)
        # behind a body of optical depth 1, for those that want one number
        self.sigma = (math.e / float(value[value > 0].mean())) ** 0.5 / absorption

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        photons = self._photons(y)
        rate = photons * (-self.absorption * y.detach()).exp()
        source = generator.device if generator is not None else y.device
        counts = torch.poisson(rate.to(source), generator=generator).to(y)
        return self.log(counts, photons)

    def log(self, counts: Tensor, photons: Tensor) -> Tensor:
        """Line integrals of so many counted photons; 0 where nothing could be seen."""
        seen = photons > 0
        share = counts.clamp_min(_NONE) / torch.where(seen, photons, 1)
        return torch.where(seen, -share.log() / self.absorption, 0)

    def std(self, clean: Tensor) -> Tensor:
        rate = self._photons(clean) * (-self.absorption * clean).exp()
        return torch.where(rate > 0, rate.clamp_min(_NONE).rsqrt() / self.absorption, torch.inf)

    def level(self, y: Tensor) -> Tensor:
        std = self.std(y)
        seen = std.isfinite()
        return (
            torch.where(seen, std, 0).flatten(1).square().sum(1) / seen.flatten(1).sum(1)
        ).sqrt()

    def counts(self, y: Tensor) -> Tensor:
        """The photons behind line integrals that `log` made."""
        counts = self._photons(y) * (-self.absorption * y).exp()
        return torch.where(counts > 1.001 * _NONE, counts, 0)

    def log_likelihood(self, clean: Tensor, y: Tensor) -> Tensor:
        """sum of k log(r / k) + k - r with the rates r = photons exp(-absorption clean), (B,) nats.

        Against the likelihood of r = k, that of counts by the thousand is told in single precision.
        """
        counts, excess = self.counts(y), self.absorption * (y - clean)  # log(r / k)
        rate = self._photons(y) * (-self.absorption * clean).exp()
        each = torch.where(counts > 0, counts * (excess - excess.expm1()), -rate)
        return each.flatten(1).sum(1)

    def select(self, idx: Tensor) -> TransmissionNoise:
        each = self.photons.ndim == 4 and len(self.photons) > 1
        return TransmissionNoise(self.photons[idx], self.absorption) if each else self

    def _photons(self, like: Tensor) -> Tensor:
        return self.photons.to(like)

    def extra_repr(self) -> str:
        return f"{float(self.photons.mean()):.3g} photons, absorption={self.absorption:g}"


def line_integrals(
    counts: Tensor,
    flat: Tensor | float,
    dark: Tensor | float = 0.0,
    *,
    gain: float | None = None,
    absorption: float = 1.0,
) -> tuple[Tensor, TransmissionNoise]:
    """From what a detector counted to line integrals and their noise.

    Args:
        counts: (..., views, detectors), of a scan.
        flat: of the open beam, without a body: frames (N, detectors), their mean (detectors,), or one
            number.
        dark: the same without a beam.
        gain: counts of one photon; None takes it from the spread of the frames of ``flat``, or 1 where
            there is one only, or all are the same.
        absorption: of a pixel of value 1, see `TransmissionNoise`.

    Returns:
        y = -log((counts - dark) / (flat - dark)) / absorption, as ``counts``, and its noise. Bins
        without a beam hold 0, with a noise that is infinite.

    Raises:
        InputError: counts that are negative or not finite, or no bin that sees the beam.
        ShapeError: frames of another number of bins.

    Example:
        >>> y, noise = line_integrals(torch.full((90, 64), 500.0), flat=1000.0)
        >>> round(float(y.mean()), 4), noise.absorption
        (0.6931, 1.0)
    """
    counts = torch.as_tensor(counts, dtype=torch.float64)
    flat, dark = (torch.as_tensor(t, dtype=torch.float64) for t in (flat, dark))
    for name, values in (("counts", counts), ("flat", flat), ("dark", dark)):
        if not bool(values.isfinite().all()):
            raise InputError(f"{name} holds NaN or Inf: replace them")
        if values.ndim and values.shape[-1] != counts.shape[-1]:
            raise ShapeError(
                f"{name} has {values.shape[-1]} bins, but the scan has {counts.shape[-1]} detectors"
            )
    if bool((counts < 0).any()):
        raise InputError(
            f"{int((counts < 0).sum())} of {counts.numel()} counts are negative: give raw counts, "
            "not their logarithms, and darks by themselves"
        )
    no_beam = dark.reshape(-1, dark.shape[-1]).mean(0) if dark.ndim else dark
    beam = (flat.reshape(-1, flat.shape[-1]).mean(0) if flat.ndim else flat) - no_beam
    if not bool((beam > 0).any()):
        raise InputError("no bin of flat is brighter than dark: are the two exchanged?")
    if gain is None:
        gain = 1.0
        if flat.ndim > 1 and len(flat) > 1:  # of neighbours in time: beams drift
            seen = beam > 0
            spread = 0.5 * flat.diff(dim=0).square().mean(0)[seen] / beam[seen]
            gain = float(spread[spread <= _BAD * spread.median()].mean()) or 1.0
    if not gain > 0:
        raise InputError(f"gain={gain:g}: the counts of a photon are above 0")
    photons = beam.clamp_min(0) / gain
    noise = TransmissionNoise(photons, absorption)
    return noise.log((counts - no_beam) / gain, photons), noise
