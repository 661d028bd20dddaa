"""The activations that the conditioner networks know by name."""

from __future__ import annotations

from typing import Any

from torch import nn

ACTIVATIONS: dict[str, Any] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


def make_activation(name: str, **options) -> nn.Module:
    """The activation of this name, or ValueError."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r}: choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name](**options)
