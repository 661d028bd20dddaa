"""Draws of an approximate posterior, made exact by weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..importance import Importance, importance_weights


def reweight(
    posterior, x, log_joint: Callable, *, draws: int = 10_000, generator=None
) -> tuple[Tensor, Importance]:
    """Draws (n, D) of a posterior with weights that make them exact, for one measurement x.

    ``log_joint(theta, x)`` is log p(theta) + log p(x | theta), (n, D) -> (n,). The weights' ESS
    and Pareto k say whether to trust them; their ``log_evidence`` estimates log p(x).
    """
    options = {} if generator is None else {"generator": generator}
    theta = posterior.sample((draws,), x=x, **options)
    target = torch.as_tensor(log_joint(theta, x))
    return theta, importance_weights(target, posterior.log_prob(theta, x=x))
