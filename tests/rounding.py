"""A pytest plugin that makes this processor round as another one would: `pytest -p rounding`.

Other processors and other versions of PyTorch sum in another order, so that float32 results differ
in the last bits. Here the results of products, convolutions and random numbers are moved by as much,
each as its own bits say: equal results stay equal, and nothing depends on chance. What passes only
without holds the path of an algorithm and not its goal. `ULPS=8 pytest -p rounding` moves by more.
"""

from __future__ import annotations

import functools
import os

import torch
from torch.autograd import forward_ad

_EPS = float(os.environ.get("ULPS", "3")) * 2.0**-24
_PRODUCTS = "linear conv1d conv2d conv3d conv_transpose2d bilinear layer_norm".split()
_FUNCTIONS = (
    "matmul bmm mm einsum addmm baddbmm cdist rand randn randn_like rand_like normal".split()
)
_METHODS = "matmul __matmul__ __rmatmul__ bmm mm logsumexp".split()


def moved(y):
    """y with each number moved by a few units of its last place."""
    if (
        not isinstance(y, torch.Tensor)
        or y.dtype != torch.float32
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or type(y) not in (torch.Tensor, torch.nn.Parameter)
        or y.device.type != "cpu"
    ):
        return y
    with torch.no_grad():
        bits = y.detach().contiguous().view(torch.int32)
        hashed = (bits * -1640531527) >> 28  # -8 ... 7
        hashed = hashed.where(y != y.round(), 0)  # sums of whole numbers are exact anywhere
        factor = 1 + hashed.float() * (_EPS / 8)
    return y * factor


def _wrap(owner, name):
    original = getattr(owner, name, None)
    if original is None:
        return

    @functools.wraps(original)
    def other(*args, **kwargs):
        y = original(*args, **kwargs)
        return y if kwargs.get("out") is not None else moved(y)

    setattr(owner, name, other)


def pytest_configure():
    for name in _PRODUCTS:
        _wrap(torch.nn.functional, name)
    for name in _FUNCTIONS:
        _wrap(torch, name)
    for name in _METHODS:
        _wrap(torch.Tensor, name)
