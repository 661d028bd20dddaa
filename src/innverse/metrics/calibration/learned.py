"""How much did the data teach?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .draws import truth_and_draws


@dataclass(frozen=True)
class Learned:
    """Per measurement and parameter (N, D): posterior ``contraction`` 1 - var_post / var_prior, and
    ``z_score`` (mean_post - truth) / std_post."""

    contraction: Tensor
    z_score: Tensor


def contraction(source, theta, x=None, *, prior_variance=None, draws: int = 1000, generator=None):
    """How much the data taught, and whether it was true (Schad et al. 2021, arXiv 1904.12765).

    ``prior_variance`` (D,) is that of ``theta`` itself unless given. Returns `Learned`.
    """
    theta, samples = truth_and_draws(source, theta, x, draws, generator)
    prior = theta.var(0) if prior_variance is None else torch.as_tensor(prior_variance).double()
    mean, variance = samples.mean(0), samples.var(0)
    return Learned(1 - variance / prior, (mean - theta) / variance.sqrt().clamp_min(1e-300))
