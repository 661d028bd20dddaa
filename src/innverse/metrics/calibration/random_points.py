"""Tests of accuracy with random points: one number for all dimensions together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ShapeError, UsageError
from .draws import Quantity, own, truth_and_draws
from .uniform import kolmogorov_p


@dataclass(frozen=True)
class TARP:
    """Expected coverage (``ecp``) at the credibility ``levels``, both (G,).

    ``area`` is the mean of ecp - level above 1/2: negative where the posterior is too narrow.
    ``p_value`` is that of the N coverage values being uniform.
    """

    levels: Tensor
    ecp: Tensor
    area: float
    p_value: float


def tarp(
    source,
    theta,
    x=None,
    *,
    draws: int = 1000,
    references=None,
    bins: int = 50,
    of: Quantity | None = None,
    generator: torch.Generator | None = None,
) -> TARP:
    """Tests of accuracy with random points (Lemos et al. 2023, arXiv 2302.03026).

    The share of draws that lie closer to a random reference point than the truth is uniform when
    the posterior is exact. Distances are Euclidean, with theta (or what ``of`` says of it) scaled to
    [0, 1]; references (N, D) are uniform over the range of theta unless given.
    """
    if bins < 2:
        raise UsageError(f"bins={bins}: give at least 2")
    theta, samples = truth_and_draws(source, theta, x, draws, generator, of)
    g = own(generator)
    low, high = theta.amin(0), theta.amax(0)
    span = (high - low).clamp_min(1e-300)
    if references is None:
        references = low + span * torch.rand(theta.shape, generator=g, dtype=torch.float64)
    references = torch.as_tensor(references).double()
    if references.numel() != theta.numel():
        raise ShapeError(f"references {tuple(references.shape)} do not fit {tuple(theta.shape)}")
    references = references.reshape(theta.shape)
    far = ((theta - references) / span).norm(dim=1)
    share = (((samples - references) / span).norm(dim=2) < far).double().mean(0)
    levels = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    ecp = (share <= levels.unsqueeze(1)).double().mean(1)
    n = len(samples)
    u = (share * n + torch.rand(share.shape, generator=g, dtype=torch.float64)) / (n + 1)
    upper = levels > 0.5
    return TARP(levels, ecp, float((ecp - levels)[upper].mean()), kolmogorov_p(u))
