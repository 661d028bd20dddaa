"""What a prior and an operator of one's own must have to be used here; nothing is inherited.

A prior is a `Generator`, a `Density` or both, and `NoiseConditional` if it knows noise levels; a
`Flow` is all three. Batches come first: x (B, *shape), z (B, *latent_shape); images live on [0, 1].
`isinstance` asks for the names only.

>>> from innverse import flows
>>> from innverse.protocols import Density, Generator
>>> isinstance(flows.build("glow", (1, 8, 8), levels=1, steps=1), Density)
True
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Generator(Protocol):
    """x = G(z), z ~ N(0, I): what the methods "latent" and "adaptive" search in."""

    shape: tuple[int, ...]
    """Of one item, (C, H, W)."""
    latent_shape: tuple[int, ...]
    """Of one latent; equal to ``shape`` for a flow, which makes images of any size."""

    def decode(self, z: Tensor) -> Tensor:
        """(B, *latent_shape) -> (B, *shape), differentiable."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """z = f(x): what starts at, or penalises, the code of an image."""

    def encode(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, *latent_shape)."""
        ...


@runtime_checkable
class Density(Protocol):
    """log p(x): what the methods "map", "constrained" and "posterior" need."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Nats of each item, (B, *shape) -> (B,), differentiable."""
        ...


@runtime_checkable
class NoiseConditional(Protocol):
    """p(x; sigma), the density of images plus N(0, sigma^2) noise: what the method "pnp" needs."""

    noise_range: tuple[float, float] | None
    """The lowest and the highest sigma, on the scale of images; None for a plain density."""

    def at(self, sigma: float) -> Any:
        """The prior at this level: the same methods without a condition."""
        ...


@runtime_checkable
class Physics(Protocol):
    """y = A x, linear, on batches (deepinv's names); `innverse.physics.as_physics` takes it."""

    def A(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, *measurement)."""
        ...

    def A_adjoint(self, y: Tensor) -> Tensor:
        """A^T y, with <A x, y> = <x, A^T y>."""
        ...


def is_of_codes(prior: object) -> bool:
    """Whether fewer latents make its images; a `log_prob` is then a density on their manifold."""
    codes: tuple[int, ...] = getattr(prior, "latent_shape", ())
    return bool(codes) and math.prod(codes) < math.prod(getattr(prior, "shape", ()))


def has_density(prior: object) -> bool:
    """Whether it is a `Density` of all images, not of a manifold of them."""
    return isinstance(prior, Density) and not is_of_codes(prior)


def noise_range(prior: object) -> tuple[float, float] | None:
    """The noise levels that a prior knows; None where it knows none."""
    return getattr(prior, "noise_range", None)


def multiple_of(prior: object) -> int:
    """What the sides of images must divide by for this prior, 1 unless it says otherwise."""
    return getattr(prior, "multiple", 1)
