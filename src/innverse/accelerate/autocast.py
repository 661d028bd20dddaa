"""PyTorch's autocast, asked in a way that every device answers: there is none for meta tensors."""

from __future__ import annotations

import contextlib

import torch


def autocast_dtype(device: str) -> torch.dtype | None:
    """The type that autocast asks for on this type of device, or None where it is off."""
    if device == "meta" or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def without_autocast(device: str) -> contextlib.AbstractContextManager:
    """Everything in the types that are given."""
    if device == "meta" or not torch.is_autocast_enabled(device):
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


def with_autocast(device: str, dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    """Autocast to ``dtype``, or none where that is None: what `autocast_dtype` once said."""
    if dtype is None or device == "meta":
        return without_autocast(device)
    return torch.autocast(device, dtype)
