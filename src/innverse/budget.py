"""Building a model that a file describes without believing the file: a budget of numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from .errors import InputError

_SPARE = 1 << 22  # numbers that any builder may make on the way: tables, masks, orthogonal starts
_TIMES = 8  # so many times the numbers of the file: masks, inverses and copies beside the weights


class Budget(TorchFunctionMode):
    """Within it, tensors of more numbers than a file justifies are refused before they are made.

    A description of a few bytes can name a network of 10^12 weights, or of 10^6 layers; what it
    describes has to fit the tensors beside it, so building stops as soon as it exceeds them.

    Args:
        numbers: in all tensors of the file together.
        tensors: how many these are.

    Raises:
        InputError: (from whatever is built within) more than that is asked for.
    """

    def __init__(self, numbers: int, tensors: int):
        super().__init__()
        self.numbers, self.tensors = _TIMES * numbers + _SPARE, 2 * tensors + 64
        self.kept = self.registered = 0

    def __enter__(self):
        self._hooks = [
            register_module_parameter_registration_hook(self._register),
            register_module_buffer_registration_hook(self._register),
        ]
        return super().__enter__()

    def __exit__(self, *exception):
        for hook in self._hooks:
            hook.remove()
        return super().__exit__(*exception)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _FACTORIES:
            self._allow(_asked(func, args, kwargs))
        elif len(args) == 2 and isinstance(args[0], Tensor) and isinstance(args[1], Tensor):
            # a product of two long vectors is longer than both
            self._allow(_broadcast(args[0], args[1]))
        return func(*args, **kwargs)

    def _register(self, module, name, tensor) -> None:
        if tensor is not None:
            self.kept += tensor.numel()
            self.registered += 1
            self._allow(self.kept)
            if self.registered > self.tensors:
                raise self._error()

    def _allow(self, numbers: int) -> None:
        if numbers > self.numbers:
            raise self._error()

    def _error(self) -> InputError:
        return InputError("it describes a larger model than its tensors")


_FACTORIES = {
    torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full, torch.eye,
    torch.arange, torch.linspace, torch.randperm, torch.randint, torch.tril_indices,
    torch.triu_indices, Tensor.new_zeros, Tensor.new_ones, Tensor.new_empty, Tensor.new_full,
    Tensor.repeat,
}  # fmt: skip


def _asked(func, args: tuple, kwargs: dict[str, Any]) -> int:
    """How many numbers the call of a factory makes, or more."""
    sizes = [n for arg in args for n in (arg if isinstance(arg, (tuple, list)) else [arg])]
    sizes += list(kwargs.get("size", ()))
    numbers = [abs(int(n)) for n in sizes if isinstance(n, (int, float)) and math.isfinite(n)]
    if func in (torch.arange, torch.linspace, torch.randperm):
        return sum(numbers)
    if func is torch.eye and len(numbers) == 1:
        return numbers[0] ** 2
    if func in (torch.full, Tensor.new_full):  # the value is no size
        size = kwargs.get("size", args[func is Tensor.new_full] if args else ())
        return math.prod(size) if isinstance(size, (tuple, list)) else 0
    if func is torch.randint:
        size = next((a for a in args if isinstance(a, (tuple, list))), kwargs.get("size", ()))
        return math.prod(size)
    if func is Tensor.repeat:
        return args[0].numel() * math.prod(numbers)
    return math.prod(numbers)


def _broadcast(a: Tensor, b: Tensor) -> int:
    if a.numel() * b.numel() <= _SPARE:
        return 0
    short, long = sorted((a.shape, b.shape), key=len)
    short = (1,) * (len(long) - len(short)) + tuple(short)
    return math.prod(max(m, n) for m, n in zip(short, long))
