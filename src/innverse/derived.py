"""Buffers that follow from how a module was built, and so are in no state dict.

A module that is built on the meta device gets empty memory in their place, so they are made again
whenever its state is loaded.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def register_derived(module: nn.Module, **buffers: Tensor) -> None:
    """Register ``buffers`` beside the module's tensors; ``module.derive()`` must give them again."""
    for name, value in buffers.items():
        module.register_buffer(name, value, persistent=False)
    module.register_load_state_dict_post_hook(_derive_again)


def _derive_again(module: Any, incompatible_keys) -> None:
    tensors = [*module.parameters(), *module.buffers()]
    device = next((t.device for t in tensors if not t.is_meta), None)
    for name, value in module.derive().items():
        old = getattr(module, name)
        dtype = old.dtype if value.is_floating_point() else value.dtype
        if device is not None:
            setattr(module, name, value.to(device, dtype))
