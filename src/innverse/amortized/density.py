"""The conditional densities q(u | c) to choose from, u on the whole line, c a vector of features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import flows
from ..bijections import ActNorm, Affine, Bijection, Chain, RationalQuadraticSpline
from ..bijections.base import sum_per_item
from ..bijections.elementwise import Elementwise
from ..errors import UsageError
from ..flows.base import standard_normal
from ..flows.flow_matching import ContinuousFlow
from ..nets import MLP
from .mdn import Density, MixtureDensity

DENSITIES = ("nsf", "realnvp", "mdn", "flow_matching")


class ConditionalMap(Bijection):
    """z_i = transform(x_i; net(c)_i): each coordinate for itself, under parameters from the condition.

    With the affine map it is a location and a scale that follow the observation; alone it is the
    whole flow of a single parameter.
    """

    def __init__(
        self, channels: int, condition: int, transform: Elementwise, width: int, depth: int
    ):
        super().__init__()
        self.channels, self.transform = channels, transform
        self.net = MLP(condition, transform.n_params * channels, width, depth)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_derivative = self.transform.forward(x, self._params(c))
        return z, sum_per_item(log_derivative)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_derivative = self.transform.inverse(z, self._params(c))
        return x, sum_per_item(log_derivative)

    def _params(self, c: Tensor | None) -> Tensor:
        return self.net(c, None).unflatten(1, (self.transform.n_params, self.channels))

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.transform}"


class FlowDensity(Density):
    """A conditional flow as a density."""

    flow: flows.Flow

    def __init__(self, flow: flows.Flow):
        super().__init__()
        self.flow = flow
        flow.condition_scale = None  # of features, whose network learns their size
        self.by_likelihood = not isinstance(flow, ContinuousFlow)

    def loss(self, u: Tensor, c: Tensor) -> Tensor:
        """What training minimises, (B,): -log q(u | c), or for flow matching its regression."""
        if not isinstance(self.flow, ContinuousFlow):
            return -self.log_prob(u, c)
        # held-out pairs always get the same noise and times, so that epochs can be compared
        generator = None if self.training else torch.Generator().manual_seed(0)
        return self.flow.training_loss(u, c, generator).expand(len(u))

    def log_prob(self, u: Tensor, c: Tensor) -> Tensor:
        """log q(u | c); u (B, d), c (B, k) -> (B,)."""
        return self.flow.log_prob(u, c)

    def sample(self, c: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw for each row of c (B, k) -> (B, d)."""
        z = standard_normal((len(c), *self.flow.shape), generator=generator, like=c)
        return self.flow.decode(z, c)

    def initialize_(self, u: Tensor, c: Tensor) -> None:
        """Set the ActNorms from one batch."""
        self.flow.initialize_(u, c)


def build_density(name: str, d: int, condition: int, size: dict[str, Any]) -> Density:
    """The density ``name`` of u (B, d) given c (B, condition).

    Args:
        name: ``"nsf"`` or ``"realnvp"`` (flows of couplings), ``"mdn"`` (a mixture of normals)
            or ``"flow_matching"``.
        size: width and depth of the networks; layers (flows), bins (spline), components (mdn).

    Raises:
        UsageError: an unknown name.
    """
    if name not in DENSITIES:
        raise UsageError(f"density={name!r}: choose one of {', '.join(DENSITIES)}")
    width, depth = size["width"], size["depth"]
    if name == "mdn":
        return MixtureDensity(d, condition, size["components"], width, depth)
    if name == "flow_matching":
        options = {"hidden": width, "depth": depth + 1, "evaluations": 32}
        return FlowDensity(flows.build(name, (d,), condition=condition, **options))
    # first the place and the size of the posterior, then its shape
    layers: list[Bijection] = [ConditionalMap(d, condition, Affine(8.0), width, depth), ActNorm(d)]
    if d == 1:
        spline = RationalQuadraticSpline(max(size["bins"], 8), 5.0)
        layers += [ConditionalMap(1, condition, spline, width, depth)]
    else:
        options = {k: size[k] for k in ("layers", "width", "depth")}
        options |= {"bins": size["bins"]} if name == "nsf" else {}
        options |= {"mix": "lu", "standardize": False}
        body = flows.build(name, (d,), condition=condition, **options)
        layers += list(body.bijection.layers)
    return FlowDensity(flows.Flow(Chain(*layers), (d,), condition=condition))
