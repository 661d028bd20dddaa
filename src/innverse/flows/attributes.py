"""Directions in latent space: from images without an attribute to images with it.

Kingma & Dhariwal 2018, section 6: the difference of the mean latents of the two sets, added to the
exact latent of any image.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from ..data.atomic import atomic_write
from ..errors import InputError, ShapeError
from ..reading import parse_json, read_bytes
from .flow import Flow

# The level at which images are encoded: the density is sharp there, yet smooth enough to move in.
SIGMA = 0.02


@dataclass(frozen=True)
class Attribute:
    """The direction of an attribute in the latents of one flow.

    Attributes:
        direction: difference of the mean latents (C, H, W).
        noise: length that the difference would have if the attribute did nothing: its standard
            error, sqrt(sum of the variances / n) over both sets. Far below the length of the
            direction, the direction is that of the attribute; near it, it is chance.
        counts: (images with, images without).
        sigma: noise level of the flow at which images are encoded, None for plain flows.
        model: fingerprint of the flow's weights.

    Example:
        >>> flow = innverse.flows.build("nice", (4,))
        >>> smiling = Attribute.between(flow, torch.rand(9, 4) + 1, torch.rand(9, 4))
        >>> smiling.direction.shape
        torch.Size([4])
    """

    direction: Tensor
    noise: float
    counts: tuple[int, int]
    sigma: float | None
    model: str

    @property
    def length(self) -> float:
        return float(self.direction.norm())

    @classmethod
    def between(
        cls, flow: Flow, with_it: Tensor, without: Tensor, sigma: float | None = None
    ) -> Attribute:
        """From images with and without the attribute, each (N, C, H, W), uint8 or in [0, 1].

        The images are encoded as they are, without the noise that a noise-conditional flow models:
        it would only add variance to the means.

        Raises:
            InputError: fewer than 2 images in a set. ShapeError: images of different size.
        """
        if min(len(with_it), len(without)) < 2:
            raise InputError("an attribute needs at least 2 images with it and 2 without it")
        if with_it.shape[1:] != without.shape[1:]:
            raise ShapeError(
                f"images with the attribute are {tuple(with_it.shape[1:])}, those without "
                f"{tuple(without.shape[1:])}; bring them to one size"
            )
        (mean, error), (mean_without, error_without) = (
            _latent_mean(flow, images, sigma) for images in (with_it, without)
        )
        noise = (error + error_without) ** 0.5
        counts = len(with_it), len(without)
        return cls(mean - mean_without, noise, counts, sigma, fingerprint(flow))

    def apply(self, flow: Flow, x: Tensor, strengths: Tensor) -> Tensor:
        """The image x (C, H, W) with the attribute at each of the ``strengths`` (S,): (S, C, H, W).

        1 adds the whole difference of the means. Strength 0 gives x again, up to rounding.

        Raises:
            InputError: the direction was made with another flow. ShapeError: another size.
        """
        if fingerprint(flow) != self.model:
            raise InputError("this attribute was made with another model: take that one")
        if x.shape != self.direction.shape:
            raise ShapeError(
                f"this attribute is for images of {tuple(self.direction.shape)}, not of "
                f"{tuple(x.shape)}"
            )
        with torch.no_grad():
            steps = strengths.to(x).view(-1, *[1] * x.dim()) * self.direction.to(x)
            return flow.decode(flow.encode(x[None], self.sigma) + steps, self.sigma)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file."""
        facts = {name: getattr(self, name) for name in ("noise", "counts", "sigma", "model")}
        tensors = {"direction": self.direction.cpu().contiguous()}
        return atomic_write(path, tensor_bytes(tensors, metadata={"innverse": json.dumps(facts)}))

    @classmethod
    def load(cls, path: str | Path) -> Attribute:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing or holds something else.
        """
        data = read_bytes(path)
        try:
            facts = parse_json(_metadata(data))
            direction = read_tensors(data)["direction"]
            noise, sigma, model = facts["noise"], facts["sigma"], facts["model"]
            with_it, without = (int(n) for n in facts["counts"])
            sound = isinstance(noise, float | int) and isinstance(model, str)
            sound = sound and (sigma is None or isinstance(sigma, float)) and direction.dim() == 3
            if not (sound and direction.dtype == torch.float32 and direction.isfinite().all()):
                raise ValueError
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
            raise InputError(
                f"{path} holds no attribute: make one with innverse attribute --save"
            ) from None
        return cls(direction, noise, (with_it, without), sigma, model)


def _metadata(data: bytes) -> str:
    """What `Attribute.save` wrote beside the tensor."""
    length = int.from_bytes(data[:8], "little")
    return parse_json(data[8 : 8 + length])["__metadata__"]["innverse"]


def fingerprint(flow: Flow) -> str:
    """Sixteen letters that tell the weights of one flow from those of another."""
    digest = hashlib.sha256()
    for name, value in sorted(flow.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _latent_mean(flow: Flow, images: Tensor, sigma: float | None) -> tuple[Tensor, float]:
    """The mean latent, and the square of its standard error summed over the coordinates."""
    device = next(flow.parameters()).device
    total = squares = torch.zeros((), dtype=torch.float64, device=device)
    for part in images.split(64):
        x = part.to(device).float() / (255 if part.dtype == torch.uint8 else 1)
        with torch.no_grad():
            z = flow.encode(x, sigma).double()
        total, squares = total + z.sum(0), squares + z.square().sum(0)
    n = len(images)
    variance = (squares - total.square() / n) / (n - 1)
    return (total / n).float(), float(variance.sum() / n)
