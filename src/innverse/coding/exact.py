"""Arithmetic with one result on every machine: what a decoder computes must be what the encoder did.

Sums depend on their order where they round, so nothing here does: weights are whole multiples of 2^-18,
activations of 2^-14, and float64 holds products and sums of such numbers exactly, in whatever order
threads, vector units and libraries take them. What is not a sum (divisions, roots, the exponential) is
made of single operations that IEEE 754 rounds in one way only.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, UsageError
from ..nets.conv import ConvNet, ConvResNet, SingleConv, ZeroConv2d

BITS = 14  # of whatever flows through, pixels and activations: units of 2^-14
_WEIGHT = 18  # of weights
_EXACT = 2.0**53
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_TERMS = 13


def exp(x: np.ndarray) -> np.ndarray:
    """e^x, within 1e-15 of it, for |x| < 700.

    Example:
        >>> import numpy as np
        >>> from innverse.coding.exact import exp
        >>> bool(abs(exp(np.array([1.0])) - np.e)[0] < 1e-14)
        True
    """
    n = np.rint(x * 1.4426950408889634)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = np.ones_like(r)
    for k in range(_TERMS, 0, -1):
        p = p * r / k + 1.0
    return np.ldexp(p, n.astype(np.int64))


def bounded(s: np.ndarray, limit: float) -> np.ndarray:
    """`innverse.bijections.bounded.soft_bound`."""
    ratio = s / limit
    return s / np.sqrt(1.0 + ratio * ratio)


def numbers(t: Tensor) -> np.ndarray:
    """A parameter in float64."""
    return t.detach().cpu().double().numpy()


def to_weights(w: np.ndarray) -> np.ndarray:
    """In units of 2^-18, rounded to whole ones."""
    return np.rint(w * 2.0**_WEIGHT)


def product(w: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Weights (m, n), in their units, times whole numbers h (n, p), rounded to such."""
    _check(float(np.abs(w).sum(1).max(initial=0)) * float(np.abs(h).max(initial=0)))
    return np.rint(w @ h.astype(np.float64) * 2.0**-_WEIGHT).astype(np.int64)


class Convolution:
    """A convolution of whole numbers (1, C, H, W) in float64, its sum rounded to whole numbers."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray):
        w = to_weights(weight)
        self.weight = torch.from_numpy(w)
        self.bias = torch.from_numpy(np.rint(bias * 2.0 ** (_WEIGHT + BITS)))
        self._most = float(np.abs(w).reshape(len(w), -1).sum(1).max())
        self._offset = float(self.bias.abs().max())
        self._padding = w.shape[-1] // 2

    def __call__(self, h: Tensor) -> Tensor:
        _check(self._most * float(h.abs().max()) + self._offset)
        y = F.conv2d(h, self.weight, padding=self._padding) + self.bias.view(-1, 1, 1)
        return (y * 2.0**-_WEIGHT).round()


class Network:
    """A conditioner network of `innverse.nets` in exact arithmetic, its vector condition c (k,) fixed.

    Example:
        >>> net = innverse.nets.ConvNet(2, 4, hidden=8)
        >>> Network(net, None)(torch.ones(1, 2, 4, 4).double()).shape
        torch.Size([1, 4, 4, 4])
    """

    def __init__(self, net: nn.Module, c: np.ndarray | None):
        if not isinstance(net, (ConvNet, ConvResNet, SingleConv)):
            raise UsageError(
                "pictures are coded by flows whose networks are convolutional, not "
                f"{type(net).__name__}"
            )
        self._joins = None if c is None or getattr(net, "film", None) is not None else c
        films = getattr(net, "film", None)
        films = None if films is None or c is None else [_film(film, c) for film in films]
        self.last = _convolution(net.last)
        self.activation = _activation(getattr(net, "activation", None))
        self.blocks: list[tuple[Convolution, Convolution]] = []
        self.films = None
        if isinstance(net, ConvNet):
            pair = films or [None, None]
            self.front = [_convolution(net.first, pair[0]), _convolution(net.middle, pair[1])]
        elif isinstance(net, ConvResNet):
            if films is not None:
                raise UsageError("pictures are not coded by residual networks with how='film'")
            self.front = [_convolution(net.first)]
            self.blocks = [(_convolution(b[1]), _convolution(b[3])) for b in net.blocks]  # ty: ignore[not-subscriptable]
        else:
            self.front = []
        self._residual = isinstance(net, ConvResNet)

    def __call__(self, h: Tensor) -> Tensor:
        """Of whole numbers (1, C, H, W) in float64, such."""
        if self._joins is not None:
            c = torch.from_numpy(np.rint(self._joins * 2.0**BITS)).view(1, -1, 1, 1)
            h = torch.cat((h, c.expand(-1, -1, *h.shape[2:])), 1)
        act = self.activation
        if self._residual:
            h = self.front[0](h)
            for one, two in self.blocks:
                h = h + two(act(one(act(h))))
            return self.last(act(h))
        for conv in self.front:
            h = act(conv(h))
        return self.last(h)


def _convolution(conv, film: tuple[np.ndarray, np.ndarray] | None = None) -> Convolution:
    weight, bias = numbers(conv.weight), numbers(conv.bias)
    gain, shift = (1.0, 0.0) if film is None else film
    if isinstance(conv, ZeroConv2d):
        gain = exp(numbers(conv.log_gain))
    return Convolution(weight * np.reshape(gain, (-1, 1, 1, 1)), bias * gain + shift)


def _film(film, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gain 1 + s(c) and the shift t(c) of each channel."""
    s, t = np.split(linear(film.linear, c), 2)
    return 1.0 + s, t


def linear(layer, c: np.ndarray) -> np.ndarray:
    """A linear layer of the numbers c (k,), rounded to multiples of 2^-14."""
    h = np.rint(c * 2.0**BITS).astype(np.int64)
    w, b = to_weights(numbers(layer.weight)), numbers(layer.bias)
    return product(w, h[:, None])[:, 0] * 2.0**-BITS + np.rint(b * 2.0**BITS) * 2.0**-BITS


def _activation(module):
    if module is None or isinstance(module, nn.ReLU):
        return F.relu
    if isinstance(module, nn.SiLU):
        return _silu
    raise UsageError(f"pictures are coded by flows with 'relu' or 'silu', not {module}")


def _silu(h: Tensor) -> Tensor:
    x = h.numpy() * 2.0**-BITS
    return torch.from_numpy(np.rint(x / (1.0 + exp(-np.clip(x, -60, 60))) * 2.0**BITS))


def _check(most: float) -> None:
    if not most < _EXACT:
        raise InputError(
            "this picture is so unlike those of the model that its code would not be exact: "
            "take a model of such pictures"
        )
