"""config.json + model.safetensors as a file format: nothing in them is believed before it is checked.

The header of the tensors says how large the model can be. What the config describes is built within
that budget, compared with the header name by name, and only then are the tensors read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from ..errors import InnverseError, InputError, NotConvergedError, is_out_of_memory
from ..reading import open_regular, parse_json, read_bytes, read_json

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_LARGEST_HEADER = 100_000_000  # bytes: the format's own limit
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

Header = dict[str, tuple[torch.dtype, tuple[int, ...]]]


def tensor_bytes(model: nn.Module) -> bytes:
    """The weights of a model in the safetensors format.

    Raises:
        NotConvergedError: NaN or infinite weights, which nobody could use.
    """
    if bad := not_finite(model):
        raise NotConvergedError(f"{bad} of this model is not finite, so it is not saved")
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    return write_tensors(tensors, metadata={"format": "pt"})


def not_finite(model: nn.Module) -> str | None:
    """The name of a parameter with NaN or an infinity, or of a buffer with NaN; None without.

    A buffer may hold infinities: where a parameter of a posterior has no bound.
    """
    parameters = {k: p.detach() for k, p in model.named_parameters()}
    buffers = {k: b for k, b in model.named_buffers() if b.is_floating_point()}
    for tensors, allowed in ((parameters, torch.isfinite), (buffers, lambda t: ~t.isnan())):
        # a sum is one fast pass, and not finite where an item is not
        sums = [t.sum().double().cpu() for t in tensors.values()]
        doubtful = ~torch.stack(sums).isfinite() if sums else []
        for (name, t), doubt in zip(tensors.items(), doubtful):
            if doubt and not bool(allowed(t).all()):
                return name
    return None


def read_config(
    path: Path, formats: tuple[str, ...], version: int, needed: dict[str, Any], what: str
) -> dict[str, Any]:
    """The config of one of the ``formats``, with all ``needed`` entries of their type.

    Raises:
        InputError: not readable, not JSON, of another format or version, or lacking something.
    """
    config = read_json(path, f"fetch or save the {what} again")
    found = config.get("format") if isinstance(config, dict) else None
    if not isinstance(found, str) or found not in formats:
        known = f" but an {found}" if isinstance(found, str) and found[:9] == "innverse-" else ""
        name = "an innverse model" if what == "model" else f"an {formats[0]}"
        raise InputError(f"{path} does not describe {name}{known[:60]}")
    given = config.get("format_version")
    if given != version or isinstance(given, bool):
        raise InputError(
            f"{path} has format version {str(given)[:20]}, this innverse reads {version}: "
            f"update innverse or save the {what} again"
        )
    if missing := needed.keys() - config.keys():
        raise InputError(f"{path} lacks {', '.join(sorted(missing))}: save the {what} again")
    for key, kind in needed.items():
        value = config[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            name = getattr(kind, "__name__", kind)
            raise InputError(
                f"{path} is damaged ({key} is {str(value)[:40]!r}, no {name}): "
                f"fetch or save the {what} again"
            )
    return config


def read_header(path: Path) -> Header:
    """Dtype and shape of every tensor in a safetensors file, whose size is as they say.

    Raises:
        InputError: not readable, cut off, or no such file.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
                raise ValueError("its header is cut off")
            entries = parse_json(file.read(length))
        header, end = {}, 0
        for name, entry in entries.items():
            if name == "__metadata__":
                continue
            dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
            if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 16:
                raise ValueError("a shape in its header is none")
            begin, stop = entry["data_offsets"]
            if stop - begin != math.prod(shape) * dtype.itemsize:
                raise ValueError("a shape in its header has another size than its data")
            header[name], end = (dtype, shape), end + stop - begin
        if 8 + length + end != size:
            raise ValueError("it has another size than its header says")
        return header
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        reason = str(error) if isinstance(error, ValueError) else "its header is no such thing"
        raise InputError(
            f"{path} is damaged ({reason}): fetch it again, or save it again"
        ) from None


def build_to_fit(build: Callable[[], nn.Module], folder: Path, sha256: str) -> nn.Module:
    """What ``build()`` makes of a config, with the tensors beside it.

    Built without memory first, on the meta device, until it exceeds what the tensors can be of.

    Raises:
        InputError: it cannot be built, is another model than that of the tensors by name, dtype or
            shape; or the tensors are not finite, or their checksum differs.
    """
    config, weights = folder / CONFIG, folder / WEIGHTS
    header = read_header(weights)
    try:
        with _limit(budget_of(header), 2 * len(header) + 64), torch.device("meta"):
            model = build()
        wanted = {name: (t.dtype, tuple(t.shape)) for name, t in model.state_dict().items()}
    except InnverseError as error:
        raise InputError(f"{config}: {str(error).splitlines()[0]}") from None
    except Exception as error:
        if is_out_of_memory(error):
            raise InputError(f"{config} describes a model that does not fit in memory") from None
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise InputError(f"{config} describes no model that can be built ({reason})") from error
    if difference := _difference(wanted, header):
        raise InputError(
            f"{weights} is damaged or of another model than {CONFIG} says ({difference}): "
            "fetch it again, or save it again"
        )
    data = read_bytes(weights)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(
            f"{weights} is damaged (its checksum differs): fetch it again, or save it again"
        )
    tensors = tensors_of(data, weights)
    model.load_state_dict(tensors, assign=True)
    if _lacks_values(model):  # of a layer that makes more than its state tells
        model = build()
        model.load_state_dict(tensors)
    if bad := not_finite(model):
        raise InputError(f"{weights} is unusable ({bad} is not finite): train or fetch it again")
    return model


def budget_of(header: Header) -> int:
    """How many numbers a model of these tensors may be made of: masks, inverses and copies stand
    beside its weights, and any builder makes some on the way."""
    return 8 * sum(math.prod(shape) for _, shape in header.values()) + (1 << 22)


@contextmanager
def _limit(numbers: int, tensors: int) -> Generator[None]:
    """Within it, modules that register more numbers, or tensors, than that are refused.

    A description of a few bytes can name a network of 10^12 weights, or of 10^6 layers.
    """
    left = [numbers, tensors]

    def register(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        if tensor is not None:
            left[:] = left[0] - tensor.numel(), left[1] - 1
            if min(left) < 0:
                raise InputError("it describes a larger model than its tensors")

    with ExitStack() as hooks:
        hooks.callback(register_module_parameter_registration_hook(register).remove)
        hooks.callback(register_module_buffer_registration_hook(register).remove)
        yield


def _lacks_values(model: nn.Module) -> bool:
    held = (v for m in model.modules() for d in (vars(m), m._buffers, m._parameters)
            for v in d.values())  # fmt: skip
    return any(isinstance(t, Tensor) and t.is_meta for t in held)


def tensors_of(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file; InputError where there are none."""
    try:
        return read_tensors(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"{path} is damaged ({reason}): fetch it again, or save it again"
        ) from None


def _difference(wanted: Header, header: Header) -> str | None:
    """The first difference between what a model needs and what a file has, in words."""
    for name in sorted(wanted.keys() | header.keys()):
        short = name if len(name) <= 80 else name[:77] + "..."
        if name not in header:
            return f"{short} is missing"
        if name not in wanted:
            return f"{short!r} does not belong to it"
        (dtype, shape), (found, given) = wanted[name], header[name]
        if shape != given:
            return f"{short} has the shape {given} instead of {shape}"
        if dtype != found:
            return f"{short} holds {found} instead of {dtype}".replace("torch.", "")
    return None
