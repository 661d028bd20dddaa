"""Flows by name, and what they are made of: transforms of one variable and networks."""

from __future__ import annotations

from ..models.registry import Registry

_MODULES = (
    ".couplings",
    ".autoregressive",
    ".realnvp_images",
    ".glow",
    ".residual",
    ".flow_matching",
    ".tarflow",
    ".patches",
    ".injective",
)
FLOWS = Registry("flow", "innverse.flows", _MODULES)
register, names, build, about = FLOWS.register, FLOWS.names, FLOWS.build, FLOWS.about

TRANSFORMS = Registry("transform", "innverse.flows", (".transforms",))
register_transform = TRANSFORMS.register

NETWORKS = Registry("network", "innverse.flows", (".networks",))
register_network = NETWORKS.register
