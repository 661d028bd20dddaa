"""Generators by name: ``build(name, shape, **config)`` makes any registered one."""

from __future__ import annotations

from ..models.registry import Registry

GENERATORS = Registry("generator", "innverse.generators", (".vae", ".gan", ".freeform"))
register, names, build = GENERATORS.register, GENERATORS.names, GENERATORS.build
