"""Filtered back-projection: the classical picture of a sinogram (Kak & Slaney 1988, chapter 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import unknown
from .footprints import Geometry, projected, turned

# windows over frequencies from 0 to 1, the highest
_WINDOWS = {
    "ramp": torch.ones_like,
    "shepp-logan": lambda f: torch.sinc(f / 2),
    "cosine": lambda f: torch.cos(math.pi / 2 * f),
    "hamming": lambda f: 0.54 + 0.46 * torch.cos(math.pi * f),
    "hann": lambda f: 0.5 + 0.5 * torch.cos(math.pi * f),
}
FILTERS = tuple(_WINDOWS)
_GAP = 3.0  # times the usual step between views, from which on something was not measured


def filtered_back_projection(
    g: Geometry, y: Tensor, filter: str = "ramp", cutoff: float = 1.0
) -> Tensor:
    """Images (B, C, H, W) of sinograms (B, C, views, detectors).

    Each view counts for the angle halfway to its neighbours, so views may be unevenly spread and may
    repeat. What lies in a gap much wider than the others is taken to be like what was seen, so that
    the mean is right. Views of a fan beam are parts of a full turn, in which each ray is seen twice.
    """
    if filter not in _WINDOWS:
        raise unknown("filter", filter, FILTERS)
    bins = (torch.arange(g.detectors, dtype=y.dtype, device=y.device) - g.centre) * g.spacing
    spacing = g.spacing
    if g.source is not None:  # as if the detector stood on the axis
        reach = g.source + g.detector
        spacing *= g.source / reach
        y = y * (reach / (reach**2 + bins**2).sqrt())
    n = 2 ** math.ceil(math.log2(2 * g.detectors))
    response = _response(n, filter, cutoff).to(y)
    filtered = torch.fft.irfft(torch.fft.rfft(y, n) * response, n)[..., : g.detectors]
    height, width = g.size
    rows = (height - 1) / 2 - torch.arange(height, dtype=y.dtype, device=y.device)[:, None]
    columns = torch.arange(width, dtype=y.dtype, device=y.device) - (width - 1) / 2
    out = y.new_zeros(*y.shape[:2], height, width)
    shares = _shares(g) / spacing
    for view, angle, share in zip(filtered.unbind(2), g.angles, shares.tolist(), strict=True):
        along, across = turned(torch.tensor(math.radians(angle)).to(y), columns, rows)
        value = _between(view, projected(g, along, across) / g.spacing + g.centre)
        if g.source is not None:
            value = value * (g.source / (g.source - along)).square()
        out += share * value
    return out


def _shares(g: Geometry) -> Tensor:
    """Of each view in the integral over half a turn, (V,); their sum is pi."""
    turn = 180.0 if g.source is None else 360.0
    angles = torch.tensor(g.angles, dtype=torch.float64) % turn
    order = angles.argsort()
    after = torch.cat((angles[order].diff(), (angles[order[:1]] + turn - angles[order[-1:]])))
    usual = after[after > 1e-6].median()
    after = torch.where(after > _GAP * usual, usual, after)
    share = torch.empty_like(after)
    share[order] = 0.5 * (after + after.roll(1))
    return math.pi * share / share.sum()


def _between(values: Tensor, at: Tensor) -> Tensor:
    """values (B, C, D) at places (H, W) by linear interpolation; 0 beyond the ends."""
    low = at.floor().clamp(-1, values.shape[-1] - 1)
    part = (at - low).clamp(0, 1)
    padded = torch.nn.functional.pad(values, (1, 1))
    first = low.long() + 1
    return torch.lerp(padded[..., first], padded[..., first + 1], part)


def _response(n: int, filter: str, cutoff: float) -> Tensor:
    """Of the ramp, band-limited in space so that the mean is right, times a window."""
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    kernel = torch.zeros(n, dtype=torch.float64)
    odd = k.abs().remainder(2) == 1
    kernel[odd] = -1 / (math.pi * k[odd]).square()
    kernel[0] = 0.25
    ramp = torch.fft.rfft(kernel).real
    frequency = 2 * torch.fft.rfftfreq(n, dtype=torch.float64) / cutoff
    return ramp * torch.where(frequency <= 1, _WINDOWS[filter](frequency), 0)
