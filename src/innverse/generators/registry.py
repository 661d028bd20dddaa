"""Generators by name: ``build(name, shape, **config)`` makes any registered one."""

from __future__ import annotations

from ..registry import Registry

_GENERATORS = Registry("generator")
register, names, build, builder = (
    _GENERATORS.register,
    _GENERATORS.names,
    _GENERATORS.build,
    _GENERATORS.builder,
)
