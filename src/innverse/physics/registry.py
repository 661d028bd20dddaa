"""Operators by name, for the command line and configuration files."""

from __future__ import annotations

from typing import Any

from ..catalog import OPERATORS
from ..errors import InnverseError, UsageError
from ..options import OptionError


def names() -> list[str]:
    """The names that `build` knows.

    Example:
        >>> "inpainting" in names()
        True
    """
    return list(OPERATORS)


def options(name: str) -> dict[str, object]:
    """The options of an operator with their defaults; all take ``sigma`` or ``gain``, see `build`.

    Raises:
        UsageError: an unknown name.

    Example:
        >>> options("downsampling")["factor"]
        2
    """
    declared = OPERATORS.declared(name).declared
    return {key: option.default for key, option in declared.items()} | {"sigma": None, "gain": None}


def measures_images(name: str) -> bool:
    """Whether the operator measures pictures, which a user can have as a file."""
    return OPERATORS[name].operator.measures_images


def build(name: str, image_shape, **given: Any):
    """Make an operator from its name.

    Args:
        name: one of `names`, or an alias ("superresolution" is "downsampling").
        image_shape: (C, H, W) of one image.
        given: options, see `options`; all operators take ``sigma`` (Gaussian noise) or ``gain``
            (Poisson noise).

    Raises:
        UsageError: an unknown name or option, or a value that makes no sense.

    Example:
        >>> physics = build("superresolution", (1, 16, 16), factor=4, sigma=0.01)
        >>> physics.A(torch.rand(2, 1, 16, 16)).shape
        torch.Size([2, 1, 4, 4])
    """
    from .base import checked_shape
    from .noise import GaussianNoise, NoNoise, PoissonNoise

    declaration = OPERATORS[name]
    if unknown := [key for key in given if key not in options(name)]:
        valid = ", ".join(options(name))
        raise UsageError(f"unknown option {unknown[0]!r} for physics {name!r}: valid are {valid}")
    sigma, gain = given.pop("sigma", None), given.pop("gain", None)
    if sigma is not None and gain is not None:
        raise UsageError("give sigma (Gaussian noise) or gain (Poisson noise), not both")
    try:
        physics = declaration(**given).build(checked_shape(image_shape))
        if gain is not None:
            level = PoissonNoise(gain)
        else:
            level = GaussianNoise(sigma) if sigma is not None else NoNoise()
        physics.noise = physics.noise.with_level(level)
    except (TypeError, ValueError) as error:
        if isinstance(error, InnverseError) and not isinstance(error, OptionError):
            raise
        raise UsageError(f"bad option for physics {name!r}: {error}") from None
    return physics
