"""How curved the log-density of the prior is at each frequency."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...flows.conditioned import ConditionedFlow
from ...protocols import noise_range

_DRAWS = 16
_LEAST = 1e-3


def level_of(density) -> float | None:
    """The one noise level of a noise-conditional flow; None of any other density."""
    if not isinstance(density, ConditionedFlow) or noise_range(density.flow) is None:
        return None
    c = torch.as_tensor(density.c)
    return float(c) if c.numel() == 1 else None


def prior_spectrum(density, like: Tensor) -> Tensor | None:
    """sigma0^2 E |F grad log p(u; sigma0)|^2 of draws u of the prior, (C, H, W // 2 + 1).

    The Fisher information E[-d^2 log p / du^2] by frequency, in units of the largest that the density
    of anything plus N(0, sigma0^2) can have: near 1 where images hold nothing but the noise, and small
    where they vary most. Averages of neighbouring frequencies, of few draws of the size of `like` (N,
    C, H, W). The same for all items, so that what one gets does not depend on those beside it. None
    of a density without one noise level, or with draws that are not finite.
    """
    level = level_of(density)
    if level is None:
        return None
    g = torch.Generator().manual_seed(0)
    power = torch.zeros(like.shape[1:]).to(like)
    for _ in range(_DRAWS):  # one by one: images may be large
        u = density.sample(1, size=tuple(like.shape[2:]), generator=g).to(like)
        with torch.enable_grad():
            u.requires_grad_()
            (gradient,) = torch.autograd.grad(density.log_prob(u).sum(), u)
        power += torch.fft.fft2(gradient[0], norm="ortho").abs().square()
    around = F.avg_pool2d(F.pad(power[None], (1, 1, 1, 1), mode="circular"), 3, 1)[0]
    spectrum = (around * level**2 / _DRAWS).clamp_min(_LEAST)[..., : like.shape[3] // 2 + 1]
    return spectrum if bool(torch.isfinite(spectrum).all()) else None
