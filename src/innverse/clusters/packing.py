"""Results as bytes, without pickle: what a worker sends is what a record holds.

Dictionaries with texts as keys, lists, tensors, bytes, texts, numbers and None; tuples become lists.
The tensors are those of a safetensors file, the rest is JSON in its header.
"""

from __future__ import annotations

import json
import math
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

_KEY = "value"


def pack(value: Any) -> bytes:
    """The bytes of a value.

    Raises:
        TypeError: something that is none of the above.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_plain(value, tensors), allow_nan=False)
    return safetensors.torch.save(tensors, {_KEY: text})


def unpack(data: bytes) -> Any:
    """The value of `pack`.

    Raises:
        ValueError: other bytes, or a part of them.
    """
    try:
        tensors = safetensors.torch.load(data)
        size = int.from_bytes(data[:8], "little")
        text = json.loads(data[8 : 8 + size])["__metadata__"][_KEY]
        return _value(json.loads(text), tensors)
    except (safetensors.SafetensorError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"no packed value: {error}") from None


def _plain(value: Any, tensors: dict[str, Tensor]) -> Any:
    """As JSON: lists and what is special stand in objects of one key that says what it is."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys must be texts")
        return {"dict": {key: _plain(item, tensors) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_plain(item, tensors) for item in value]
    if isinstance(value, bytes):
        kind, value = (
            "bytes",
            torch.frombuffer(bytearray(value or b"\0"), dtype=torch.uint8)[: len(value)],
        )
    elif isinstance(value, Tensor):
        kind = "tensor"
    else:
        raise TypeError(f"{type(value).__name__} cannot be packed")
    name = str(len(tensors))
    tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return {kind: name}


def _value(plain: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(plain, list):
        return [_value(item, tensors) for item in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, inner),) = plain.items()
    if kind == "dict":
        return {key: _value(item, tensors) for key, item in inner.items()}
    if kind == "float":
        return float(inner)
    found = tensors[inner]
    return found if kind == "tensor" else found.numpy().tobytes()
