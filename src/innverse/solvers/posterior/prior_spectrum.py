"""How curved the log-density of the prior is at each frequency."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...flows.conditioned import ConditionedFlow
from ...flows.padding import round_up
from ...protocols import multiple_of
from ..each_channel import EachChannel
from ..levels import level_of
from .frequencies import Frequencies

_DRAWS, _AT_ONCE = 16, 4
_SIDE = 64  # pixels of a draw, of a prior of smaller images: further frequencies are interpolated
_LEAST = 1e-3


class PriorSpectrum:
    """The Fisher information E[-d^2 log p / du^2] of u = x + N(0, sigma^2) by frequency.

    In units of the largest that the density of anything plus N(0, sigma^2) can have: j near 1 where
    images hold nothing but the noise, and small where they vary most.

    Args:
        power: of the images x (C, H, W // 2 + 1): j = sigma^2 / (sigma^2 + power), as of a normal law
            (Wiener), so that what was measured at one level serves all.
        channels: the basis in which it is given, see `Frequencies`.
    """

    def __init__(self, power: Tensor, channels: Tensor | None = None):
        self.power, self.basis = power, Frequencies(channels)

    def at(self, level: float) -> Tensor:
        """j (C, H, W // 2 + 1)."""
        return (level**2 / (level**2 + self.power)).clamp_min(_LEAST)


class Spread:
    """C = F^T 1/j F, what a prior leaves open by frequency: the identity where that is not known."""

    def __init__(self, basis: Frequencies | None = None, j: Tensor | float = 1.0):
        self.basis, self.j = basis or Frequencies(), j

    @classmethod
    def at(cls, density, spectrum: PriorSpectrum | None) -> Spread:
        """That of a spectrum, at the level of a density."""
        level = level_of(density)
        if spectrum is None or level is None:
            return cls()
        return cls(spectrum.basis, spectrum.at(level))

    def to_the(self, power: float, x: Tensor) -> Tensor:
        """C^power x."""
        return self.basis.filtered(x, self.j**-power) if isinstance(self.j, Tensor) else x

    def __call__(self, x: Tensor) -> Tensor:
        return self.to_the(1.0, x)


def prior_spectrum(density, like: Tensor) -> PriorSpectrum | None:
    """sigma^2 E |F grad log p(u; sigma)|^2 of draws u of the prior, for images of the size of ``like``.

    Of few draws, so neighbouring frequencies are averaged; in the basis of channels whose gradients
    are not correlated. The same for all items, so that what one gets does not depend on those beside
    it. None of a density without one noise level, or with draws that are not finite.
    """
    if isinstance(density, EachChannel):
        one = prior_spectrum(density.prior, like[:, :1])
        return one and PriorSpectrum(one.power.expand(like.shape[1], -1, -1))
    level = level_of(density)
    if level is None or not isinstance(density, ConditionedFlow):
        return None
    gradients = torch.fft.fft2(_gradients(density, like), norm="ortho")
    covariance = torch.einsum("nchw,nkhw->ck", gradients, gradients.conj()).real
    if not bool(torch.isfinite(covariance).all()):
        return None
    channels = torch.linalg.eigh(covariance).eigenvectors.mT
    mixed = torch.einsum("kc,nchw->nkhw", channels.to(gradients), gradients)
    power = mixed.abs().square().mean(0, keepdim=True)
    around = F.avg_pool2d(F.pad(power, (1, 1, 1, 1), mode="circular"), 3, 1)
    j = _resampled((level**2 * around).clamp(_LEAST, 1), like)[0]
    return PriorSpectrum(level**2 * (1 / j - 1), channels if len(channels) > 1 else None)


def _gradients(density, like: Tensor) -> Tensor:
    """Of the log-density at draws, small ones where ``like`` is large."""
    side = round_up(_SIDE, multiple_of(density))
    pairs = zip(like.shape[2:], density.shape[1:], strict=True)
    size = tuple(min(n, max(own, side)) for n, own in pairs)
    g = torch.Generator().manual_seed(0)
    found = []
    for _ in range(_DRAWS // _AT_ONCE):
        u = density.sample(_AT_ONCE, size=size, generator=g).to(like)
        with torch.enable_grad():
            u.requires_grad_()
            found += torch.autograd.grad(density.log_prob(u).sum(), u)
    return torch.cat(found)


def _resampled(spectrum: Tensor, like: Tensor) -> Tensor:
    """(1, C, h, w) by frequency, of a symmetric spectrum, at the frequencies of ``like``."""
    height, width = like.shape[2:]
    if spectrum.shape[2:] == like.shape[2:]:
        return spectrum[..., : width // 2 + 1]
    # from -1/2 to 1/2, both ends included, of periods that wrap around
    centred = F.pad(torch.fft.fftshift(spectrum, (2, 3)), (0, 1, 0, 1), mode="circular")
    rows, columns = (
        2 * f(n).to(like) for f, n in ((torch.fft.fftfreq, height), (torch.fft.rfftfreq, width))
    )
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    return F.grid_sample(centred, grid[None], padding_mode="border", align_corners=True)
