"""PyTorch's autocast, asked in a way that every device answers: there is none for meta tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

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


@contextlib.contextmanager
def exact_convolutions(device: str) -> Generator[None]:
    """For the state of a flow: without autocast, and with all bits of the factors, of which a GPU
    otherwise keeps 10 (TF32)."""
    with without_autocast(device):
        if device != "cuda" or torch.compiler.is_compiling():
            yield
            return
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before


def with_autocast(device: str, dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    """Autocast to ``dtype``, or none where that is None: what `autocast_dtype` once said."""
    if dtype is None or device == "meta":
        return without_autocast(device)
    return torch.autocast(device, dtype)


@contextlib.contextmanager
def without_autocast_cache() -> Generator[None]:
    """Weights are cast at each use: a CUDA graph would read the copies of its first run for ever."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
