"""The models of a comparison, seen through what all of them can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ... import zoo
from ...errors import UsageError
from ...flows import Flow

LABELS = ("INN", "Injective", "VAE", "GAN")

BATCH = 16  # images at once, in everything that is measured


@dataclass
class Contestant:
    """One model.

    Attributes:
        label: one of `LABELS`; "Injective" is an injective flow.
        name: of the shipped model, or its folder.
        model: a `Flow`, or one of `innverse.generators`.
        sigma: the noise level at which a noise-conditional flow is taken, its lowest; else None.
        training: what its card tells of its training: steps, batch_size, minutes.
    """

    label: str
    name: str
    model: Any
    sigma: float | None = None
    training: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str, device: torch.device | str = "cpu") -> Contestant:
        """A shipped model or a folder.

        Raises:
            UsageError: no model of images, or one that needs a condition.
        """
        model = zoo.load(name).to(device)
        if len(model.shape) != 3 or model.condition:
            raise UsageError(f"{name} is no model of images alone: compare cannot take it")
        sigma = None if model.noise_range is None else model.noise_range[0]
        return cls(_label(model), str(name), model, sigma, zoo.training(name))

    @property
    def encodes(self) -> bool:
        return hasattr(self.model, "encode")

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def draw(self, n: int, temperature: float, seed: int = 0) -> Tensor:
        """(n, C, H, W), clipped to [0, 1]; the same for the same seed."""
        generator = torch.Generator(self.device).manual_seed(seed)
        options = {"temperature": temperature, "generator": generator}
        options |= {} if self.sigma is None else {"c": self.sigma}
        sizes = [min(BATCH, n - first) for first in range(0, n, BATCH)]
        return torch.cat([self.model.sample(k, **options).cpu() for k in sizes]).clamp(0, 1)

    def encode(self, x: Tensor) -> Tensor:
        """z of images (B, C, H, W): exact for a flow, the mean of the encoder for a VAE."""
        return self._apply(self.model.encode, x)

    def decode(self, z: Tensor) -> Tensor:
        """Images of latents."""
        return self._apply(self.model.decode, z)

    def prior(self):
        """What `innverse.solve` takes: the flow at its level, or the model itself."""
        return self.model if self.sigma is None else self.model.at(self.sigma)

    def _apply(self, function, x: Tensor) -> Tensor:
        level = () if self.sigma is None else (self.sigma,)
        with torch.no_grad():
            return torch.cat(
                [function(part.to(self.device), *level).cpu() for part in x.split(BATCH)]
            )


def _label(model) -> str:
    if isinstance(model, Flow):
        return "INN"
    if hasattr(model, "project"):  # an injective flow, of layers or free-form
        return "Injective"
    return "VAE" if hasattr(model, "log_prob_bound") else "GAN"
