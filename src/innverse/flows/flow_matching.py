"""Continuous flows trained by flow matching: regression on a velocity, no determinant in training.

x_t = (1 - t) z + t x,   minimise E |v(x_t, t) - (x - z)|^2,   dx/dt = v(x, t) from z to x
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..bijections import Bijection, Chain, Standardize
from ..bijections.base import sum_per_item
from ..errors import UsageError
from ..models.parts import Part, record
from ..nets import MLP, UNet
from ..seeding import fixed_signs
from .conditioned import condition_is_c
from .flow import Flow
from .registry import register

# Explicit Runge-Kutta schemes: (evaluations of v in a step, their times, how each uses those
# before it, weights of the sum).
_SCHEMES = {
    "euler": ((0.0,), ((),), (1.0,)),
    "heun": ((0.0, 1.0), ((), (1.0,)), (1 / 2, 1 / 2)),
    "rk4": (
        (0.0, 1 / 2, 1 / 2, 1.0),
        ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
}
_SEED = 2018
_FREQUENCIES = 4  # of t; faster ones would need more steps of the solver


class Velocity(Part, nn.Module):
    """v(x, t): a network that gets t in [0, 1] (B,) as sines and cosines beside a condition.

    Example:
        >>> velocity = Velocity(innverse.nets.MLP(2, 2, condition=8))
        >>> velocity(torch.rand(5, 2), torch.rand(5)).shape
        torch.Size([5, 2])
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        frequency = torch.arange(_FREQUENCIES, device=x.device, dtype=x.dtype).exp2() * math.pi / 2
        angle = t[:, None] * frequency
        parts = [angle.sin(), angle.cos()] + ([] if c is None else [c.to(x.dtype)])
        return self.net(x, torch.cat(parts, 1)).to(x.dtype)


class Integral(Bijection):
    """The flow of dx/dt = v(x, t, c): forward from t = 1 (data) to 0 (noise), inverse back.

    log|det dz/dx| = - int_0^1 div v dt (instantaneous change of variables, Chen et al. 2018). The
    divergence is exact up to ``exact_dims`` numbers an item; above, it is Hutchinson's estimate
    v^T J v (FFJORD, Grathwohl et al. 2018) with ``probes`` random signs, fresh at every evaluation,
    so that their errors average along the path, but the same for every item and call, so that
    log p is a deterministic function.

    Fixed steps of ``method``: forward and inverse, and the log-determinants of both, agree up to
    the error of the scheme (orders 1, 2 and 4 in 1 / evaluations), not to rounding.

    Example:
        >>> layer = Integral(Velocity(innverse.nets.MLP(2, 2, condition=8)), evaluations=8)
        >>> layer.transport(torch.randn(5, 2)).shape  # from noise to data
        torch.Size([5, 2])
    """

    def __init__(
        self,
        velocity: Velocity,
        method: str = "rk4",
        evaluations: int = 64,
        exact_dims: int = 32,
        probes: int = 2,
    ):
        super().__init__()
        self.velocity, self.exact_dims, self.probes = velocity, exact_dims, probes
        self.set_solver(method, evaluations)

    def set_solver(self, method: str, evaluations: int) -> None:
        """Euler, Heun or RK4, with this many evaluations of v from one end to the other."""
        if method not in _SCHEMES:
            raise UsageError(f"method={method!r}: choose one of {', '.join(_SCHEMES)}")
        stages = len(_SCHEMES[method][0])
        if evaluations < stages or evaluations % stages:
            raise UsageError(f"evaluations={evaluations}: {method} takes a multiple of {stages}")
        self.method, self.evaluations = method, int(evaluations)
        record(self, method=method, evaluations=self.evaluations)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._integrate(x, c, 1.0, -1.0)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._integrate(z, c, 0.0, 1.0)

    def transport(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """``inverse`` without its log-determinant, which costs most of the time."""
        return self._walk(z, 0.0, 1.0, lambda x, t, _: (self._at(x, t, c),))[0]

    def initialize_(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return x  # nothing here depends on data, and nothing follows

    def _integrate(self, x: Tensor, c: Tensor | None, start: float, direction: float):
        probes = self._probes(x)

        def rate(x: Tensor, t: float, slot: int) -> tuple[Tensor, Tensor]:
            return self._with_divergence(x, t, c, probes[slot % len(probes)])

        zero = x.new_zeros(len(x), dtype=torch.promote_types(x.dtype, torch.float32))
        return self._walk((x, zero), start, direction, rate)

    def _walk(self, state, start: float, direction: float, rate: Callable):
        """Fixed steps of the scheme through [0, 1], of a state of one or several tensors."""
        state = state if isinstance(state, tuple) else (state,)
        times, before, weights = _SCHEMES[self.method]
        steps = self.evaluations // len(times)
        h = direction / steps
        for k in range(steps):
            slopes: list[tuple[Tensor, ...]] = []
            for time, use in zip(times, before):
                x = state[0]
                for a, slope in zip(use, slopes):
                    x = x + (h * a) * slope[0] if a else x
                slot = k * len(times) + len(slopes)  # both directions share the probes of a time
                slot = slot if direction > 0 else self.evaluations - 1 - slot
                slopes.append(rate(x, start + h * (k + time), slot))
            state = tuple(
                s + h * sum(w * slope[i] for w, slope in zip(weights, slopes))
                for i, s in enumerate(state)
            )
        return state

    def _at(self, x: Tensor, t: float, c: Tensor | None) -> Tensor:
        return self.velocity(x, x.new_full((len(x),), t), c)

    def _with_divergence(self, x: Tensor, t: float, c: Tensor | None, probes: Tensor):
        """v (B, ...) and div v (B,): probes^T J probes, summed over the probes (K, 1, ...)."""
        if torch.is_inference_mode_enabled():  # in which old versions have no vmap of jvp
            with torch.inference_mode(False), torch.no_grad():
                return self._with_divergence(x, t, c, probes)

        def product(v: Tensor) -> tuple[Tensor, Tensor]:
            value, tangent = torch.func.jvp(lambda x: self._at(x, t, c), (x,), (v,))[:2]
            return value, tangent

        probes = probes.expand(-1, *x.shape)
        # the value is the same for all probes, but one of many where the call itself is batched
        values, tangents = torch.func.vmap(product)(probes)
        return values[0], sum_per_item((probes * tangents).sum(0))

    def _probes(self, x: Tensor) -> Tensor:
        """(slots, K, 1, *shape): the basis, whose v^T J v add up to the trace; or random signs."""
        shape, d = x.shape[1:], math.prod(x.shape[1:])
        if d <= self.exact_dims:
            return torch.eye(d, dtype=x.dtype, device=x.device).view(1, d, 1, *shape)
        shape = (self.evaluations, self.probes, 1, *shape)
        return fixed_signs(shape, _SEED, x) / math.sqrt(self.probes)

    def extra_repr(self) -> str:
        return f"{self.method}, {self.evaluations} evaluations"


class ContinuousFlow(Flow):
    """A `Flow` whose map is an ordinary differential equation, trained by flow matching.

    log_prob, encode, decode, sample and the rest are those of `Flow`, up to the error of the ODE
    solver. What is trained is `training_loss`, not the likelihood.

    Example:
        >>> flow = build("flow_matching", (2,), hidden=8, evaluations=8)
        >>> flow.training_loss(torch.randn(16, 2)).shape, flow.sample(3).shape
        (torch.Size([]), torch.Size([3, 2]))
    """

    bijection: Chain  # (Standardize, Integral)

    @condition_is_c
    def training_loss(
        self, x: Tensor, c: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """|v(x_t, t) - (x - z)|^2 per dimension, for one t and one z an item (Lipman et al. 2022).

        A scalar. The times of a batch are spread evenly over [0, 1] from a random start. x is
        standardised first. Draws from ``generator``
        or torch's global one.
        """
        normalise, integral = self._parts()
        x, c = self._given(x, c)
        with torch.no_grad():
            x = normalise(x)[0]
        device = x.device if generator is None else generator.device
        z = torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
        start = torch.rand((), generator=generator, device=device, dtype=x.dtype).to(x.device)
        t = (start + torch.arange(len(x), device=x.device, dtype=x.dtype) / len(x)) % 1
        at = t.view(-1, *[1] * (x.dim() - 1))
        velocity = integral.velocity(torch.lerp(z, x, at), t, c)
        return (velocity - (x - z)).square().mean()

    def set_solver(self, method: str = "rk4", evaluations: int = 64) -> ContinuousFlow:
        """Integrate by "euler", "heun" or "rk4" with so many evaluations of v; returns self."""
        self._parts()[1].set_solver(method, evaluations)
        if self.name is not None:
            self.config |= {"method": method, "evaluations": evaluations}
        return self

    def _invert(self, z: Tensor, c: Tensor | None) -> Tensor:
        """By integrating from noise to data, without the log-determinant."""
        normalise, integral = self._parts()
        return normalise.inverse(integral.transport(z, c))[0]

    def _parts(self) -> tuple[Standardize, Integral]:
        normalise, integral = self.bijection.layers
        return cast(Standardize, normalise), cast(Integral, integral)


@register(axes=(1, 3))
def flow_matching(
    shape: tuple[int, ...],
    *,
    hidden: int | None = None,
    depth: int = 3,
    levels: int = 2,
    condition: int = 0,
    method: str = "rk4",
    evaluations: int = 64,
    exact_dims: int = 32,
    probes: int = 2,
) -> ContinuousFlow:
    """Continuous normalizing flow by flow matching (Lipman et al. 2022, arXiv 2210.02747).

    The straight path from noise to data, regressed on by a free-form velocity: no Jacobian in
    training, an ODE to sample, and for the density the integral of a divergence.

    Args:
        shape: (D,) for a perceptron, (C, H, W) for a U-Net, which takes images of any size.
        hidden: width of the network; by default 128 for vectors, 32 for images.
        depth: hidden layers of the perceptron.
        levels: resolutions of the U-Net.
        condition: the size k of a vector condition c (B, k).
        method, evaluations: the ODE solver, ``"euler"``, ``"heun"`` or ``"rk4"``, and how often it
            evaluates the velocity; `ContinuousFlow.set_solver` changes both.
        exact_dims, probes: log_prob takes the exact divergence for items of up to ``exact_dims``
            numbers, above that an estimate from fixed random signs (see `Integral`).
    """
    if probes < 1:
        raise UsageError(f"probes={probes}: must be at least 1")
    n, context = shape[0], 2 * _FREQUENCIES + condition
    if len(shape) == 1:
        net: Any = MLP(n, n, hidden or 128, depth, condition=context)
    else:
        net = UNet(n, n, hidden or 32, levels, condition=context)
    integral = Integral(Velocity(net), method, evaluations, exact_dims, probes)
    chain = Chain(Standardize(n), integral)
    return ContinuousFlow(chain, shape, condition=condition, maps=False)
