"""Transforms of one variable by name, for ``transform=`` of the builders."""

from __future__ import annotations

from ..bijections.elementwise import Additive, Affine, Elementwise, RationalQuadraticSpline
from ..errors import UsageError
from .registry import TRANSFORMS, register_transform

register_transform(Additive, name="additive")
register_transform(Affine, name="affine")
register_transform(RationalQuadraticSpline, name="spline")


def as_transform(transform: str | Elementwise, **options) -> Elementwise:
    """An `Elementwise`: itself, or that of a registered name with those ``options`` that are given.

    Raises:
        UsageError: an unknown name, an option that it does not have; options beside an object.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if isinstance(transform, str):
        TRANSFORMS.check(transform, given)
        return TRANSFORMS.builder(transform)(**given)
    if not isinstance(transform, Elementwise):
        raise UsageError(
            f"transform={transform!r}: give an object of innverse.bijections.Elementwise, or one of "
            f"{', '.join(TRANSFORMS.names())}"
        )
    if given:
        raise UsageError(f"{', '.join(given)}: {transform} has its own, so leave them out")
    return transform
