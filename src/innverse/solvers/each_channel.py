"""One prior for every channel of an image: spectral bands, or the parts of complex numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..protocols import Generator


class EachChannel(nn.Module):
    """A prior of gray images (1, H, W) as one of images (channels, H, W), channels independent.

    Serves wherever `innverse.solve` takes a flow. The parts of complex numbers may be negative, which
    the prior never saw: operators on complex images have -1 and 1 for its black and white
    (`LinearPhysics.image_range`).

    Args:
        prior: a flow or generator of images with one channel.
        channels: how many channels the images have.

    Example:
        >>> gray = innverse.flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=4)
        >>> EachChannel(gray, 3).shape
        (3, 8, 8)
    """

    prior: Any

    def __init__(self, prior: Generator, channels: int):
        super().__init__()
        self.prior, self.channels = prior, channels
        for name in ("noise", "noise_range", "multiple", "symmetries", "shift", "c"):
            if hasattr(prior, name):
                object.__setattr__(self, name, getattr(prior, name))
        _, *size = prior.shape
        self.shape = (channels, *size)
        if tuple(prior.latent_shape) == tuple(prior.shape):
            self.latent_shape = self.shape
        else:
            self.latent_shape = (channels, *prior.latent_shape)
        # what the prior cannot do, its copies cannot either
        for name in ("log_prob", "encode", "score", "at"):
            if hasattr(prior, name):
                object.__setattr__(self, name, getattr(self, f"_{name}"))

    def decode(self, z: Tensor, c=None) -> Tensor:
        """(B, channels, ...) to images (B, channels, H, W)."""
        image = self.latent_shape == self.shape
        flat = self._flat(z) if image else z.flatten(0, 1)
        return self._joined(self.prior.decode(flat, *self._condition(c)))

    def _encode(self, x: Tensor, c=None) -> Tensor:
        z = self.prior.encode(self._flat(x), *self._condition(c))
        return z.reshape(len(x), self.channels, *z.shape[2 if z.ndim == 4 else 1 :])

    def _log_prob(self, x: Tensor, c=None) -> Tensor:
        log_p = self.prior.log_prob(self._flat(x), *self._condition(c))
        return log_p.view(len(x), self.channels).sum(1)

    def _score(self, x: Tensor, c=None) -> Tensor:
        return self._joined(self.prior.score(self._flat(x), *self._condition(c)))

    def _at(self, c) -> EachChannel:
        return EachChannel(self.prior.at(c), self.channels)

    def as_data(self, x: Tensor, what: str = "x") -> Tensor:
        return self._joined(self.prior.as_data(self._flat(x), what))

    def _flat(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1)[:, None]

    def _joined(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.channels, *x.shape[2:])

    def _condition(self, c) -> tuple:
        """The condition of every channel, where there is one."""
        if c is None:
            return ()
        each = isinstance(c, Tensor) and c.ndim > 0 and len(c) > 1
        return (torch.repeat_interleave(c, self.channels, 0) if each else c,)
