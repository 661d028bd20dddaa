"""Pictures to bytes and back, bit for bit, at the length that the density of a flow says.

    grey levels v --(v + u, u off the stack)--> x --integer flow--> z --under N(0, I)--> the stack

u are bits that lie on the stack already, so they cost nothing: bits back (Townsend et al. 2019, arXiv
1901.04866). Only for the first picture they must be borrowed.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, ShapeError, UsageError
from ..flows.conditioned import ConditionedFlow
from ..flows.padding import pad_to_multiple, padded_size
from .ans import Stack
from .exact import BITS
from .integer_flow import IntegerFlow

_MAGIC = b"inn1"
_HEADER, _CRC = struct.Struct("<4s8sIIBBHHH"), struct.Struct("<I")
_BEGIN = _HEADER.size + _CRC.size
_NUMBERS_A_LANE = 1 << 13
_CHECK = 4  # bits of a picture
_LANES = 4, 128
_LARGEST = 1 << 31  # numbers of all pictures


@dataclass(frozen=True)
class Code:
    """What is known of a code without decoding it.

    Attributes:
        shape: (N, C, H, W) of the pictures.
        bits: the length of the code.
        borrowed: bits of it that the first pictures borrowed, and that a longer row of pictures,
            or other data to hide, would use.

    Example:
        >>> Code((100, 1, 28, 28), 90000, 12000).bits_per_dim
        0.9948979591836735
    """

    shape: tuple[int, int, int, int]
    bits: int
    borrowed: int

    @property
    def bits_per_dim(self) -> float:
        """Net of what was borrowed: to be compared with that of the density."""
        return (self.bits - self.borrowed) / math.prod(self.shape)

    @property
    def gross_bits_per_dim(self) -> float:
        """The whole length."""
        return self.bits / math.prod(self.shape)


def compress(flow, images, *, progress: Callable[[int, int], object] | None = None) -> bytes:
    """A code of pictures, losslessly, about as long as ``flow.bits_per_dim`` says.

    Args:
        flow: of images, with affine or additive couplings and convolutional networks (glow, realnvp);
            a flow with a noise level codes best at its lowest, ``flow.at(level)``, which is the
            default.
        images: (N, C, H, W), whole numbers 0 to 255.
        progress: called with (done, N).

    Raises:
        UsageError: a flow with other layers. InputError: other pictures.

    Example:
        >>> flow = innverse.load("digits")
        >>> images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
        >>> torch.equal(decompress(flow, compress(flow, images)), images)
        True
    """
    base, given = _flow_and_condition(flow)
    pixels = _as_pixels(images, base)
    n, channels, height, width = pixels.shape
    condition = np.rint(given * 2.0**BITS).astype("<i4")
    model = IntegerFlow(base.bijection, _as_condition(condition))
    lanes = _lanes(pixels.size)
    stack = Stack(lanes)
    for done, image in enumerate(pixels[::-1], 1):
        _push(model, _padded(image, base.multiple), image, stack)
        if progress is not None:
            progress(done, n)
    words = np.array(stack.words, "<u4").tobytes()
    body = condition.tobytes() + stack.heads.astype("<u8").tobytes() + words
    sizes = n, stack.borrowed, lanes, len(condition), channels, height, width
    head = _HEADER.pack(_MAGIC, _fingerprint(base), *sizes)
    return head + _CRC.pack(zlib.crc32(body, zlib.crc32(head))) + body


def decompress(
    flow, data: bytes, *, progress: Callable[[int, int], object] | None = None
) -> Tensor:
    """The pictures of a code, uint8 (N, C, H, W); ``flow`` is the one that it was made by.

    The condition of the flow, such as its noise level, stands in the code.

    Raises:
        InputError: no such code, a damaged one, or one of another model.

    Example:
        >>> flow = innverse.load("digits")
        >>> data = compress(flow, torch.full((1, 1, 8, 8), 7))
        >>> decompress(flow, data).unique()
        tensor([7], dtype=torch.uint8)
    """
    base = flow.flow if isinstance(flow, ConditionedFlow) else flow
    fingerprint, n, borrowed, lanes, k, channels, height, width = _read(data)
    if fingerprint != _fingerprint(base) or channels != base.shape[0]:
        raise InputError("this code was made by another model: give the one that compressed it")
    body = data[_BEGIN:]
    condition = np.frombuffer(body[: 4 * k], "<i4")
    heads = np.frombuffer(body[4 * k : 4 * k + 8 * lanes], "<u8").astype(np.uint64)
    words = np.frombuffer(body[4 * k + 8 * lanes :], "<u4").tolist()
    model = IntegerFlow(base.bijection, _as_condition(condition))
    stack = Stack(lanes, heads, words)
    images = np.empty((n, channels, height, width), np.uint8)
    for i in range(n):
        images[i] = _pop(model, (channels, height, width), base.multiple, stack, i)
        if progress is not None:
            progress(i + 1, n)
    if 31 * lanes + 32 * len(stack.words) != borrowed or not stack.is_as_begun:
        raise InputError("this code does not end as it began: it was not made by this version")
    return torch.from_numpy(images)


def describe(data: bytes) -> Code:
    """The pictures and the lengths of a code.

    Raises:
        InputError: no such code, or a damaged one.

    Example:
        >>> images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
        >>> describe(compress(innverse.load("digits"), images)).shape
        (3, 1, 8, 8)
    """
    _, n, borrowed, _, _, channels, height, width = _read(data)
    return Code((n, channels, height, width), 8 * len(data), borrowed)


# ---- one picture ------------------------------------------------------------------------------------


def _push(model: IntegerFlow, padded: np.ndarray, image: np.ndarray, stack: Stack) -> None:
    v = padded.astype(np.int64).ravel()
    within = stack.pop_below(np.full(len(v), 1 << model.begins))
    x = (v << model.begins) + within
    z = model.forward(x.reshape(padded.shape), stack)
    stack.push_normal(z.ravel(), BITS)
    stack.push_below(np.array([_check(image)]), np.array([1 << _CHECK]))


def _pop(model: IntegerFlow, shape, multiple: int, stack: Stack, i: int) -> np.ndarray:
    check = int(stack.pop_below(np.array([1 << _CHECK]))[0])
    channels, height, width = shape
    padded = (channels, *padded_size((height, width), multiple))
    z = stack.pop_normal(math.prod(padded), BITS)
    x = model.inverse(z.reshape(padded), stack)
    v = x >> model.begins
    stack.push_below((x - (v << model.begins)).ravel(), np.full(x.size, 1 << model.begins))
    image = v[:, :height, :width].astype(np.uint8)
    if v.min() < 0 or v.max() > 255 or _check(image) != check:
        raise InputError(f"picture {i} of this code does not decode to what was compressed")
    return image


def _check(image: np.ndarray) -> int:
    """Four bits that tell which picture is wrong first; whether one is, the end of the stack tells."""
    return zlib.crc32(np.ascontiguousarray(image).tobytes()) >> 32 - _CHECK


def _padded(image: np.ndarray, multiple: int) -> np.ndarray:
    whole = pad_to_multiple(torch.from_numpy(image.astype(np.float32))[None], multiple)[0]
    return whole.numpy().astype(np.int64)


# ---- what is given ----------------------------------------------------------------------------------


def _flow_and_condition(flow) -> tuple[Any, np.ndarray]:
    """The flow, and its condition as the layers take it, (k,), k = 0 for none."""
    c = None
    if isinstance(flow, ConditionedFlow):
        flow, c = flow.flow, flow.c
    elif getattr(flow, "noise_range", None) is not None:
        c = flow.noise_range[0]
    if not hasattr(flow, "bijection") or len(flow.shape) != 3:
        raise UsageError("pictures are coded by a flow of images, such as glow")
    with torch.no_grad():
        found = flow._condition(c, torch.zeros(1, *flow.shape))
    if found is None:
        return flow, np.zeros(0)
    if found.dim() != 2:
        raise UsageError("pictures are not coded under a condition that is a map: give a vector")
    return flow, found[0].detach().cpu().double().numpy()


def _as_condition(stored: np.ndarray) -> np.ndarray | None:
    return stored.astype(np.float64) * 2.0**-BITS if len(stored) else None


def _as_pixels(images, flow) -> np.ndarray:
    x = torch.as_tensor(images)
    if x.is_floating_point() or x.is_complex():
        raise InputError(f"pictures to compress are whole numbers 0 to 255, not {x.dtype}")
    if x.dim() != 4 or x.shape[1] != flow.shape[0] or 0 in x.shape:
        raise ShapeError(
            f"this flow codes pictures (N, {flow.shape[0]}, H, W), got {tuple(x.shape)}"
        )
    if max(x.shape[2:]) > 0xFFFF or x.numel() > _LARGEST:
        raise InputError(
            f"{tuple(x.shape)} are too many pixels for one code: compress them in parts"
        )
    if int(x.min()) < 0 or int(x.max()) > 255:
        raise InputError(f"pictures hold {int(x.min())} to {int(x.max())}: 0 to 255 can be coded")
    return x.cpu().numpy().astype(np.uint8)


def _lanes(numbers: int) -> int:
    """Each has 8 bytes in the code, and saves time: few for few pixels."""
    return min(max(_LANES[0], numbers // _NUMBERS_A_LANE), _LANES[1])


def _fingerprint(flow) -> bytes:
    """Of all weights, eight bytes."""
    sha = hashlib.sha256()
    for name, t in sorted(flow.state_dict().items()):
        sha.update(f"{name} {tuple(t.shape)} {t.dtype}".encode())
        sha.update(t.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.digest()[:8]


def _read(data: bytes) -> tuple:
    """The header of a code that is whole, after the first word."""
    if len(data) < _BEGIN or data[:4] != _MAGIC:
        raise InputError("this is no code of pictures by innverse.coding.compress")
    header = _HEADER.unpack_from(data)[1:]
    n, lanes, k, channels, height, width = header[1], *header[3:]
    numbers, body = n * channels * height * width, len(data) - _BEGIN - 4 * k - 8 * lanes
    crc = zlib.crc32(data[_BEGIN:], zlib.crc32(data[: _HEADER.size]))
    whole = crc == _CRC.unpack_from(data, _HEADER.size)[0] and body >= 0 and body % 4 == 0
    if not whole or not lanes or not 0 < numbers <= _LARGEST:
        raise InputError("this code of pictures is damaged or cut off: copy it again")
    return header
