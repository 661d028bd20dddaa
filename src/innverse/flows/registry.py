"""Flows by name: ``build(name, shape, **config)`` makes any registered one."""

from __future__ import annotations

from ..registry import Registry

_FLOWS = Registry("flow")
register, names, build, builder = _FLOWS.register, _FLOWS.names, _FLOWS.build, _FLOWS.builder
