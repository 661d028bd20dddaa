"""Parts of models that remember how they were built, so that a file can describe them.

A description is JSON: ``{"class": "bijections.Permute", "arguments": {"channels": 3}}``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import numbers
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InnverseError, InputError

_ROOMS = ("bijections", "nets", "flows", "generators")  # whose classes a file may name
_LARGEST_TENSOR = 1 << 16  # numbers that are written as text
_others: dict[str, type] = {}


class Part:
    """Base of layers, networks and models: every subclass records the arguments of its objects.

    A class of one's own is found again by its module and name, once that module is imported.
    """

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if not cls.__module__.startswith("innverse."):
            _others[_key(cls)] = cls
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)


def _recording(init):
    @functools.wraps(init)
    def run(self, *args, **options):
        if "_built_with" not in vars(self):  # the outermost class is asked first
            object.__setattr__(self, "_built_with", (args, options))
        init(self, *args, **options)

    return run


def record(part: Part, **changes) -> None:
    """What is set later takes the place of what ``part`` was built with."""
    bound = _arguments(part)
    bound.arguments |= changes
    object.__setattr__(part, "_built_with", (bound.args, bound.kwargs))


def _arguments(part: Part) -> inspect.BoundArguments:
    args, options = vars(part).get("_built_with", ((), {}))
    return inspect.signature(type(part)).bind(*args, **options)


def describe(whole: Any, where: str = "this model") -> Any:
    """JSON of a value; of a `Part`: its class and the arguments that it was built with.

    Raises:
        InnverseError: something in it is of no class that innverse can build again, is there twice,
            or was put in after it was built; the line says how to save such a model.
    """
    inside = {id(m) for m in whole.modules()} if isinstance(whole, nn.Module) else None
    described: set[int] = set()

    def written(value: Any, where: str) -> Any:
        if value is None or isinstance(value, (str, bool)):
            return value
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real) and math.isfinite(value):
            return float(value)
        if isinstance(value, (list, tuple)):
            return [written(item, where) for item in value]
        if isinstance(value, dict) and all(isinstance(k, str) for k in value):
            return {"table": {key: written(item, where) for key, item in value.items()}}
        if isinstance(value, Tensor) and value.numel() <= _LARGEST_TENSOR:
            return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
        if isinstance(value, Part):
            return of(value, where)
        remedy = _REMEDY
        if callable(value) and not isinstance(value, nn.Module):
            remedy = "register it, by @innverse.flows.register_network, say, and give its name"
        raise InnverseError(f"{where} is {_named(value)}, which no file describes: {remedy}")

    def of(part: Part, where: str) -> dict[str, Any]:
        where = f"{where} ({type(part).__name__})"
        if isinstance(part, nn.Module):
            if inside is not None and id(part) not in inside:
                raise InnverseError(f"{where} was replaced after it was built: {_REMEDY}")
            if id(part) in described:
                raise InnverseError(f"{where} stands in it twice: {_REMEDY}")
            described.add(id(part))
        if _found(_key(type(part))) is not type(part):
            raise InnverseError(f"{where} is of a class that no name leads to: {_REMEDY}")
        given = {k: written(v, f"{where}.{k}") for k, v in _arguments(part).arguments.items()}
        return {"class": _key(type(part)), "arguments": given}

    return written(whole, where)


_REMEDY = (
    "make the model by a function under @innverse.flows.register and innverse.flows.build, or save "
    "model.state_dict() with safetensors"
)


def restore(description: Any, largest: int) -> Any:
    """What `describe` wrote, its weights as its class starts them.

    Raises:
        InputError: it names a class that is unknown here, arguments that it does not take, or a
            whole number above ``largest``, of which something so large would be made.
    """
    if isinstance(description, list):
        return [restore(item, largest) for item in description]
    if isinstance(description, int) and description > largest:
        raise InputError("it describes a larger model than its tensors")
    if not isinstance(description, dict):
        return description
    if "table" in description:
        return {key: restore(item, largest) for key, item in description["table"].items()}
    if "tensor" in description:
        dtype = getattr(torch, str(description.get("dtype")), None)
        if not isinstance(dtype, torch.dtype):
            raise InputError(f"{str(description.get('dtype'))[:40]!r} is no dtype")
        return torch.tensor(description["tensor"], dtype=dtype, device="cpu")
    kind, given = _class(description.get("class")), description.get("arguments")
    if not isinstance(given, dict):
        raise InputError(f"the arguments of {kind.__name__} are no table")
    arguments = {key: restore(value, largest) for key, value in given.items()}
    signature = inspect.signature(kind)
    if unknown := arguments.keys() - signature.parameters.keys():
        raise InputError(f"{kind.__name__} has no argument {sorted(unknown)[0][:40]!r}")
    bound = signature.bind_partial()
    bound.arguments.update((k, arguments[k]) for k in signature.parameters if k in arguments)
    return kind(*bound.args, **bound.kwargs)


def _class(key: Any) -> type:
    found = _found(str(key))
    if found is None:
        raise InputError(
            f"no class {str(key)[:80]!r} is known here: import the module that defines it first "
            "(--import on the command line)"
        )
    return found


def _found(key: str) -> type | None:
    """The class of that name; nothing is imported because a file says so, but our own rooms."""
    room, _, name = key.partition(".")
    found = _others.get(key)
    if room in _ROOMS:
        package = importlib.import_module(f"innverse.{room}")
        found = getattr(package, name) if name in package.__all__ else None
    return found if isinstance(found, type) and issubclass(found, Part) else None


def _key(kind: type) -> str:
    if kind.__module__.startswith("innverse."):
        return f"{kind.__module__.split('.')[1]}.{kind.__name__}"
    return f"{kind.__module__}.{kind.__qualname__}"


def _named(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.numel()} numbers"
    return f"of {type(value).__module__}.{type(value).__qualname__}"
