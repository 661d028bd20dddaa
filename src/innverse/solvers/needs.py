"""What methods need of a prior, a density, and of a problem, a noise level."""

from __future__ import annotations

import math

from ..errors import UsageError
from ..protocols import Density, is_of_codes
from .problem import Problem


def check_density(method: str, prior, *, codes: bool = False) -> None:
    """Raise UsageError unless the prior is a density of images, or with ``codes`` of fewer latents."""
    if not isinstance(prior, Density):
        raise UsageError(
            f"method {method!r} needs a density: {type(prior).__name__} has no log_prob; "
            "choose a flow"
        )
    if is_of_codes(prior) and not codes:
        k = math.prod(getattr(prior, "latent_shape"))  # noqa: B009
        raise UsageError(
            f"method {method!r} needs a density of images, and {type(prior).__name__} has one on a "
            f"manifold of {k} dimensions: take 'latent' or 'posterior', which move there"
        )


def check_noise(method: str, problem: Problem) -> None:
    """Raise UsageError unless the noise is known."""
    if problem.noise is None:
        raise UsageError(
            f"method {method!r} needs the noise level: pass noise=, or a physics that knows it"
        )
