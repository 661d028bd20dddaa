"""Who multiplies in bfloat16: the kernel here, or PyTorch by oneDNN.

What the processor can do is one question, what is used another. Without AMX the kernel is the faster
one. With AMX, which oneDNN uses and the kernel does not, it depends on the sizes: both are tried once
for each, in this process, and the faster one is kept. INNVERSE_BF16 = native, onednn or auto (the
default) decides otherwise; where runs must agree to the last digit on such a processor, set it.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import UsageError
from . import perceptron

CHOICES = ("auto", "native", "onednn")
_MOST_ROWS = 1 << 13  # in a trial: more take longer, and tell no more


def can_multiply() -> bool:
    """Whether the kernel has bfloat16 products on this processor (AVX-512 BF16)."""
    library = perceptron._library()
    return library is not None and bool(library.perceptron_bfloat16())


def has_amx() -> bool:
    """Whether this processor has AMX's tiles for bfloat16."""
    library = perceptron._library()
    return library is not None and bool(library.perceptron_amx())


def is_worth_it(kind, x: Tensor, sizes: tuple[int, ...]) -> bool:
    """Whether the kernel shall serve x (B, ...) with a network of these sizes, in bfloat16."""
    if not can_multiply():
        return False
    choice = os.environ.get("INNVERSE_BF16", "auto")
    if choice not in CHOICES:
        raise UsageError(f"INNVERSE_BF16={choice!r}: choose one of {', '.join(CHOICES)}")
    if choice != "auto" or not has_amx():
        return choice != "onednn"
    batch, _, *space = x.shape
    most = max(_MOST_ROWS // math.prod(space), 1)
    batch = min(1 << (batch - 1).bit_length(), most)
    return is_faster(kind, (batch, sizes[0], *space), sizes, torch.get_num_threads())


@functools.lru_cache(maxsize=256)
def is_faster(kind, shape: tuple[int, ...], sizes: tuple[int, ...], threads: int) -> bool:
    """Whether value and gradient of such a network take the kernel less time than oneDNN.

    Both directions of a flow, with and without a gradient, get the same answer: a network that
    rounds differently would not be inverted.
    """
    numbers = functools.partial(torch.full, fill_value=0.01, dtype=torch.float32, device="cpu")
    with torch.inference_mode(False), torch.enable_grad():
        x = numbers(shape).requires_grad_()
        tensors = []
        for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
            side = 3 if i in (0, len(sizes) - 2) else 1
            kernel = (side, side) if len(shape) == 4 else ()
            tensors += [numbers((b, a, *kernel)).requires_grad_(), numbers((b,)).requires_grad_()]
        if len(shape) == 4:
            x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        ours = _seconds(lambda: perceptron.apply(x, kind, *tensors))
        onednn = _seconds(lambda: perceptron.formula(kind, x, *tensors))
    return ours <= onednn


def _seconds(run: Callable[[], Tensor]) -> float:
    """Of the fastest of three, after one to warm up."""
    times = []
    for _ in range(4):
        started = time.perf_counter()
        run().sum().backward()
        times.append(time.perf_counter() - started)
    return min(times[1:])
