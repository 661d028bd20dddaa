"""The deep decoder: an image is the output of a small untrained network, fitted to its measurement.

Heckel & Hand 2019 (arXiv 1810.03982). It has fewer weights than the image has numbers, so the
network itself is the regulariser: nothing is learned beforehand and nothing is stopped early.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ...catalog import Method
from ...errors import UsageError
from ...optim import adam
from ...options import SEEDS, real, whole
from ..problem import Problem
from ..reconstruction import Reconstruction
from ..starts import normal_of_each
from ..watch import Watch


class DeepDecoder:
    """Images from weights: x = sigmoid(C_L B_L), B_{i+1} = norm(relu(upsample(C_i B_i))), B_0 random.

    C_i mixes the channels of every pixel; ``norm`` standardises each channel of an image and gives
    it a learned scale and shift. Every item has weights of its own.

    Args:
        shape: (C, H, W) of an image.
        channels: k, the width of every layer.
        doublings: how often the resolution doubles, from about H / 2^doublings on.
        seed: of B_0, which is fixed and the same for all items.

    Attributes:
        latent_shape: (P,), the number of weights of an item.
    """

    def __init__(
        self, shape: tuple[int, int, int], channels: int = 48, doublings: int = 4, seed: int = 0
    ):
        c, h, w = shape
        if channels < 1 or doublings < 1:
            raise UsageError(f"channels={channels}, doublings={doublings}: must be at least 1")
        self.shape, self.channels = tuple(shape), channels
        self.sizes = [
            (math.ceil(h / 2**k), math.ceil(w / 2**k)) for k in reversed(range(doublings + 1))
        ]
        if math.prod(self.sizes[1]) < 2:  # the norm of a single pixel
            raise UsageError(f"doublings={doublings}: too many for images of {h}x{w} pixels")
        generator = torch.Generator().manual_seed(seed)
        # uniform with standard deviation 0.1, as in the authors' code
        self.first = (
            0.1 * math.sqrt(12) * torch.rand(1, channels, *self.sizes[0], generator=generator)
        )
        self.latent_shape = (doublings * channels * (channels + 2) + c * channels,)

    def start(self, batch: int, seed: int = 0) -> Tensor:
        """Weights (batch, P) of networks that have seen nothing; item i draws from seed + i."""
        weights = normal_of_each(batch, self.latent_shape, seed) / math.sqrt(self.channels)
        for _, scale, shift in self._layers(weights):
            scale.fill_(1)
            shift.fill_(0)
        return weights

    def decode(self, weights: Tensor) -> Tensor:
        """(B, P) -> images (B, C, H, W) in (0, 1)."""
        k, b = self.channels, len(weights)
        x = self.first.to(weights).expand(b, -1, -1, -1)
        layers = zip(self._layers(weights), self.sizes[1:], strict=True)
        for (matrix, scale, shift), size in layers:
            # mixing channels and upsampling commute: mix where there are fewer pixels
            x = (matrix @ x.flatten(2)).view(b, k, *x.shape[2:])
            x = F.interpolate(x, size, mode="bilinear", align_corners=False).relu()
            x = F.instance_norm(x) * scale[..., None, None] + shift[..., None, None]
        last = weights[:, -self.shape[0] * k :].view(b, -1, k)
        return (last @ x.flatten(2)).view(b, *self.shape).sigmoid()

    def _layers(self, weights: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """C_i, and the scale and shift of each channel, as views."""
        k = self.channels
        inner = k * (k + 2)
        for block in weights[:, : (len(self.sizes) - 1) * inner].split(inner, 1):
            yield block[:, : k * k].view(-1, k, k), *block[:, k * k :].chunk(2, 1)


class UntrainedDecoder(Method):
    """The weights of a small untrained network: min over w of ||A G(w) - y||^2."""

    needs = "nothing"
    uses_prior = False
    any_operator = True

    channels: int = whole(48, "Of every layer of the network.", 1, 4096)
    doublings: int = whole(4, "Layers that double the size.", 1, 16)
    steps: int = whole(2000, "Iterations.")
    lr: float = real(0.01, "First learning rate of Adam.", above=0)
    seed: int = whole(0, "Of random numbers.", *SEEDS)

    def solve(self, problem: Problem, prior: object) -> Reconstruction:
        network = DeepDecoder(problem.shape, self.channels, self.doublings, self.seed)
        watch = Watch(problem, self.steps)

        def objective(weights: Tensor, idx: Tensor) -> Tensor:
            misfit = problem.misfit(network.decode(weights), idx)
            watch.saw(idx, misfit, misfit)
            return misfit

        start = network.start(problem.batch, self.seed).to(problem.y.real)
        result = adam.minimize(
            objective, start, max_iter=self.steps, lr=self.lr, callback=watch.step
        )
        with torch.no_grad():
            x = network.decode(result.z)
        found = {"z": result.z, "converged": result.finished, "status": result.status}
        return Reconstruction.of(problem, x, "deep_decoder", **found | watch.record)
