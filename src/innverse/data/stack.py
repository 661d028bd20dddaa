"""Slices of a scientist's file: values in their units, and which of them stand for 0 and 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, ShapeError

Range = tuple[float, float]
_NEAR = (-1.0, 2.0)  # floats within: pictures on [0, 1], and their noise
_DARK = 0.1  # floats below: a quantity in small numbers, such as attenuation


@dataclass(frozen=True)
class Stack:
    """The slices of a file, or of a series of files.

    Attributes:
        values: (N, C, H, W) in ``units``, C = 1 or 3, in the type they are stored in, or float32
            where a scale was applied.
        path: where they came from.
        x_range: the (low, high) values that stand for 0 and 1. None is cut off: values may lie
            beyond.
        white: whether these are the black and white of a picture (8 or 16 bits, floats on [0, 1]),
            and not those of a measured quantity.
        units: such as "HU"; empty where the file names none.
        names: of the slices.
        groups: of the slices, equal where they show the same object (patient, volume).
        notes: what was done on the way, in words.
        kept: what its format needs to write such a file again.

    Example:
        >>> from innverse.data.stack import Stack
        >>> import numpy as np
        >>> stack = Stack(np.zeros((5, 1, 8, 8), np.int16), "ct.nii", (-1024, 3071), units="HU")
        >>> len(stack), stack.size
        (5, (8, 8))
    """

    values: np.ndarray
    path: str
    x_range: Range
    white: bool = False
    units: str = ""
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kept: Any = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.values.shape[2], self.values.shape[3]

    @property
    def eight_bit(self) -> bool:
        return self.values.dtype in (np.uint8, np.bool_)


def found_range(values: np.ndarray, label: str) -> tuple[Range, bool]:
    """The values that stand for 0 and 1, and whether they are black and white of a picture.

    Those of the type for unsigned integers of 8 and 16 bits, (0, 1) for floats that reach about there,
    else the smallest and the largest value.

    Raises:
        InputError: no real finite numbers.
    """
    if values.dtype.kind not in "fiub":
        what = "complex numbers" if values.dtype.kind == "c" else str(values.dtype)
        raise InputError(f"{label} holds {what}, no picture; give real numbers")
    if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        n = values.size - int(finite.sum())
        raise InputError(
            f"{label} has NaN or infinity in {n} of {values.size} values; replace them by numbers"
        )
    if values.dtype == np.bool_:
        return (0.0, 1.0), True
    if values.dtype in (np.uint8, np.uint16):
        return (0.0, float(np.iinfo(values.dtype).max)), True
    low, high = float(values.min()), float(values.max())
    near = _NEAR[0] <= low and high <= _NEAR[1] and (max(-low, high) >= _DARK or low == high)
    if values.dtype.kind == "f" and near:
        return (0.0, 1.0), True
    return spanned(low, high), False


def to_unit(values: Any, x_range: Range | None) -> Any:
    """An array or tensor in units as 0 and 1 at the ends of their range; None is that already.

    Example:
        >>> from innverse.data.stack import to_unit
        >>> to_unit(torch.tensor([-1000.0, 1000.0]), (-1000, 3000))
        tensor([0.0000, 0.5000])
    """
    low, high = x_range or (0.0, 1.0)
    return (values - low) / (high - low)


def from_unit(values: Any, x_range: Range | None) -> Any:
    """What `to_unit` made of values, back."""
    low, high = x_range or (0.0, 1.0)
    return low + (high - low) * values


def spanned(low: float, high: float) -> Range:
    """The two values, at least 1 apart where they are equal."""
    return (low, high) if low < high else (low, low + 1.0)


def check_units(label: str, units: str, model: Any) -> None:
    """Refuse values in ``units`` other than those of a model; where one of them names none, they are
    taken for the same.

    Raises:
        InputError: they differ.
    """
    known = getattr(model, "units", "")
    if units and known and units != known:
        raise InputError(f"{label} has values in {units}, the model knows {known}: take another")


def unused_range(values: np.ndarray, x_range: Range) -> tuple[str, ...]:
    """A note where pictures of 16 bits use a small part of what the type holds."""
    high = int(values.max())
    if values.dtype != np.uint16 or high >= 2**14:
        return ()
    white = 2 ** max(8, high.bit_length()) - 1
    return (f"values reach {high} of {x_range[1]:g}: give --range 0:{white} if that is white",)


def to_slices(array: np.ndarray, label: str) -> np.ndarray:
    """(N, C, H, W) of an array (H, W), (H, W, 3), (N, H, W), (N, H, W, 1 or 3), (N, 3, H, W) or
    with more axes before (H, W), which are counted as slices.

    Raises:
        ShapeError: something else.
    """
    shape = array.shape
    if array.ndim < 2 or array.size == 0:
        raise ShapeError(f"{label} has shape {shape}: slices are (H, W), (N, H, W) or (N, H, W, 3)")
    if _channels_last(shape):
        return np.moveaxis(array.reshape(-1, *shape[-3:]), -1, 1)
    if array.ndim == 4 and shape[1] == 3:
        return array
    return array.reshape(-1, 1, *shape[-2:])


def from_slices(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What `to_slices` made of an array of this shape; (H, W) may have changed."""
    if _channels_last(shape):
        values = np.moveaxis(values, 1, -1)
        return values.reshape(*shape[:-3], *values.shape[1:])
    return values.reshape(*shape[:-2], *values.shape[-2:])


def _channels_last(shape: tuple[int, ...]) -> bool:
    return (len(shape) in (3, 4) and shape[-1] == 3) or (len(shape) == 4 and shape[-1] == 1)


def image_like(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape may be a picture: two axes of 8 pixels or more."""
    return sum(n >= 8 for n in shape) >= 2


def as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Rounded to whole numbers where the type has no others; what lies beyond it is clipped."""
    if dtype == np.bool_:
        return values > 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.rint(values.astype(np.float64)).clip(limits.min, limits.max)
    return values.astype(dtype)


def chosen(names: dict[str, tuple[int, ...]], key: str | None, path: str) -> str:
    """The array of a file with several: that of ``key``, or the only one that may be a picture.

    Raises:
        InputError: none, or several; it lists them.
    """
    known = ", ".join(f"{n} {'x'.join(map(str, shape))}" for n, shape in [*names.items()][:12])
    if key is not None:
        if key.strip("/") not in names:
            raise InputError(f"{path} has no array {key!r}; it has: {known or 'none'}")
        return key.strip("/")
    likely = [name for name, shape in names.items() if image_like(shape)]
    if len(names) == 1:
        likely = [*names]
    if len(likely) != 1:
        which = "several arrays" if likely else "no array of pictures"
        raise InputError(f"{path} has {which} ({known or 'none'}): name one as {path}:NAME")
    return likely[0]


def elements(shape: tuple[int, ...]) -> int:
    return math.prod(int(n) for n in shape)
