"""Flows: exact densities built from bijections, by name or by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .attributes import Attribute as Attribute
    from .conditioned import ConditionedFlow as ConditionedFlow
    from .flow import Flow as Flow
    from .flow_matching import ContinuousFlow as ContinuousFlow
    from .flow_matching import Integral as Integral
    from .flow_matching import Velocity as Velocity
    from .registry import about as about
    from .registry import build as build
    from .registry import names as names
    from .registry import register as register
    from .registry import register_network as register_network
    from .registry import register_transform as register_transform

__getattr__, __dir__, __all__ = lazy(__name__)
