"""q(theta | x): parameter transform, standardised data, summary network, conditional density."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..nets.summary import summary_network
from .density import build_density
from .mdn import Density
from .parameters import ParameterTransform
from .standardize import Standardize

_SHARED = {"set": (0,), "set_transformer": (0,), "series": (1,), "image": (1, 2)}


class Estimator(nn.Module):
    """log q(theta | x) = log q(u | s(x)) + log|det du/dtheta|, u = u(theta) unbounded.

    Args:
        transform: of the parameters.
        x_shape: of one observation.
        density: see `build_density`.
        summary: one of `innverse.nets.summary.SUMMARIES`, or a module (B, *x_shape) -> (B, k) of
            one's own.
        size: see `choose_size`.
    """

    density: Density
    summary: nn.Module
    transform: ParameterTransform
    standardize: Standardize

    def __init__(
        self,
        transform: ParameterTransform,
        x_shape: tuple[int, ...],
        density: str,
        summary: str | nn.Module,
        size: dict[str, Any],
    ):
        super().__init__()
        kind = summary if isinstance(summary, str) else ""
        self.transform = transform
        self.standardize = Standardize(x_shape, _SHARED.get(kind, ()))
        if isinstance(summary, str):
            n_out, width = size["features"], size["summary_width"]
            summary = summary_network(summary, x_shape, n_out, width)
        self.summary = summary
        with torch.no_grad():
            self.n_features = self.summary(torch.zeros(2, *x_shape)).shape[1]
        self.density = build_density(density, transform.region.free, self.n_features, size)

    def learn_scales(self, theta: Tensor, x: Tensor) -> None:
        """Everything that is set from data and not trained; theta (N, D), x (N, *x_shape)."""
        self.transform.learn(theta)
        self.standardize.learn(x)
        u = self.transform(theta[:4096])[0]
        with torch.no_grad():
            self.density.initialize_(u, self.features(x[:4096]))

    def features(self, x: Tensor) -> Tensor:
        """x (B, *x_shape) -> (B, k)."""
        return self.summary(self.standardize(x))

    def log_prob(self, theta: Tensor, c: Tensor) -> Tensor:
        """log q(theta | features c); (B, D), (B, k) -> (B,); -inf outside the bounds."""
        u, log_det = self.transform(theta)
        inside = log_det.isfinite()
        # outside the value counts for nothing, and must not make NaN of the gradient
        value = self.density.log_prob(torch.where(inside.unsqueeze(1), u, 0.0), c)
        return torch.where(inside, value + log_det, -math.inf)

    def sample(self, c: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw for each row of c (B, k) -> (B, D)."""
        return self.transform.inverse(self.density.sample(c, generator))
