"""Numbers of any kind as float tensors that hold all of their digits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

EXACT = 2**53  # float64 holds all whole numbers up to here


def as_floats(values, name: str) -> Tensor:
    """A tensor of float32 or float64 that holds every digit of arrays, tensors, tables or lists.

    float32 and what is shorter becomes float32; whole numbers and Python's own float64. Masked
    entries are NaN. Device and gradient are kept.

    Raises:
        InputError: not real numbers, or whole numbers beyond 2^53, which float64 cannot hold.
    """
    if values is None:
        raise InputError(f"{name} is None: give an array of numbers")
    t = values if isinstance(values, Tensor) else _tensor(values, name)
    if t.is_complex():
        raise InputError(f"{name} is complex: give its real and imaginary parts side by side")
    if t.is_meta:
        raise InputError(f"{name} is a meta tensor, which holds no numbers")
    t = t.to_dense() if t.layout != torch.strided else t
    if t.dtype in (torch.float32, torch.float64):
        return t
    if t.is_floating_point():
        return t.float()
    if t.dtype == torch.int64 and bool(((t > EXACT) | (t < -EXACT)).any()):
        raise InputError(
            f"{name} holds whole numbers beyond 2^53, whose last digits float64 cannot hold: "
            "subtract a constant first"
        )
    return t.double()


def _tensor(values, name: str) -> Tensor:
    try:
        if isinstance(values, list | tuple) and any(isinstance(v, Tensor) for v in values):
            return torch.stack([torch.as_tensor(v) for v in values])
        if isinstance(values, np.ma.MaskedArray):
            values = values.astype(np.float64).filled(np.nan)
        array = np.asarray(values)
        if array.dtype.kind == "O" or (array.dtype.itemsize > 8 and array.dtype.kind == "f"):
            array = array.astype(np.float64)  # a table of mixed columns, or long doubles
        elif array.dtype.kind == "u":
            array = array.astype(np.float64 if array.dtype.itemsize == 8 else np.int64)
        elif array.dtype.kind not in "fibc":
            raise TypeError(f"{array.dtype} are no numbers")
        if array.dtype.kind == "c":
            return torch.zeros((), dtype=torch.complex64)
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        return torch.tensor(np.ascontiguousarray(native).reshape(array.shape))
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{name} must be an array of numbers: {reason}") from None
