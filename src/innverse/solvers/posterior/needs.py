"""What samplers need: a density, and a noise level."""

from __future__ import annotations

from ...errors import UsageError
from ...protocols import Density
from ..problem import Problem


def check_density(method: str, prior) -> None:
    """Raise UsageError unless the prior is a `Density`."""
    if not isinstance(prior, Density):
        raise UsageError(
            f"method {method!r} needs a density: {type(prior).__name__} has no log_prob; "
            "choose a flow"
        )


def check_noise(method: str, problem: Problem) -> None:
    """Raise UsageError unless the noise is known."""
    if problem.noise is None:
        raise UsageError(
            f"method {method!r} needs the noise level: pass noise=, or a physics that knows it"
        )
