"""All measurements of a comparison, in the order of the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError, ShapeError, UsageError
from ...metrics import frechet, psnr
from ...metrics.features import RandomFeatures
from ...progress import Report
from . import codes, cost, likelihood
from .contestants import BATCH, LABELS, Contestant


@dataclass
class Settings:
    """How much is measured.

    Attributes:
        temperature: of the samples shown; their distance is measured there and at 1.
        draws: samples for the Fréchet distance.
        importance: draws an image of the VAE's bound.
        searched: images of each kind for which the closest one in the range is searched.
        restarts, steps: of that search.
        memory_batch: images of the training step whose memory is measured.
        seed: of everything random.
    """

    temperature: float = 0.7
    draws: int = 400
    importance: int = 128
    searched: int = 12
    restarts: int = 3
    steps: int = 150
    memory_batch: int = 16
    seed: int = 0


@dataclass
class Data:
    """Images that no model has seen, uint8 (N, C, H, W), and where they come from, in words."""

    test: Tensor
    test_name: str
    other: Tensor
    other_name: str


@dataclass
class Findings:
    """What was measured: ``numbers`` is {label: {measure: value}}, the rest is for the page."""

    contestants: list[Contestant]
    data: Data
    settings: Settings
    numbers: dict[str, dict[str, Any]]
    depth: dict[str, dict[int, int]] | None = None
    frechet_floor: float = float("nan")
    samples: dict[str, Tensor] = field(default_factory=dict)
    closest: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        return [c.label for c in self.contestants]

    def get(self, label: str, measure: str) -> Any:
        """A number, or None where the model has none or does not take part."""
        return self.numbers.get(label, {}).get(measure)


def compare(
    contestants: list[Contestant],
    data: Data,
    settings: Settings | None = None,
    progress: Report | None = None,
) -> Findings:
    """Measure every claim on the same images, with the same seeds, on this machine.

    Raises:
        UsageError: no INN, or two models of one kind. ShapeError: models of different images.
        InputError: fewer than 4 test images.
    """
    settings, progress = settings or Settings(), progress or (lambda *_: None)
    contestants = _checked(contestants, data)
    found = Findings(contestants, data, settings, {c.label: _facts(c) for c in contestants})
    steps = [_likelihoods, _latents, _ranges, _costs, _samples]
    for i, step in enumerate(steps):
        for k, contestant in enumerate(contestants):
            done, total = i * len(contestants) + k, len(steps) * len(contestants)
            progress(done, total, f"{step.__name__.strip('_')} of the {contestant.label}")
            step(found, contestant, found.numbers[contestant.label])
    return found


def _checked(contestants: list[Contestant], data: Data) -> list[Contestant]:
    labels = [c.label for c in contestants]
    if "INN" not in labels or len(set(labels)) < len(labels):
        raise UsageError(
            f"the models are {', '.join(labels) or 'none'}: give one INN, and at most one "
            "injective flow, one VAE and one GAN"
        )
    shapes = {tuple(c.model.shape) for c in contestants} | {tuple(data.test.shape[1:])}
    if len(shapes) > 1:
        raise ShapeError(f"the models are of different images: {sorted(shapes)}")
    if len(data.test) < 4 or len(data.other) < 1:
        raise InputError("a comparison needs at least 4 test images and 1 of another kind")
    return sorted(contestants, key=lambda c: LABELS.index(c.label))


def _facts(c: Contestant) -> dict[str, Any]:
    return {
        "parameters": c.model.n_parameters,
        "latents": torch.Size(c.model.latent_shape).numel(),
        **{f"training_{key}": value for key, value in c.training.items()},
    }


def _likelihoods(found: Findings, c: Contestant, out: dict[str, Any]) -> None:
    test, s = found.data.test, found.settings
    inn = found.contestants[0]
    kinds = {"": likelihood.dequantized(test, s.seed)}
    if inn.sigma is not None:
        kinds["noised_"] = likelihood.noised(test, inn.sigma, s.seed)
    for kind, x in kinds.items():
        bits = likelihood.bits(c, x, s.importance, s.seed)
        if bits is None:
            continue
        out[f"{kind}bits_per_dim"] = float(bits.mean())
        out[f"{kind}bits_per_dim_error"] = float(bits.std() / len(bits) ** 0.5)
    elbo = likelihood.bits(c, kinds[""], 1, s.seed) if c.label == "VAE" else None
    if elbo is not None:
        out["elbo_bits_per_dim"] = float(elbo.mean())


def _latents(found: Findings, c: Contestant, out: dict[str, Any]) -> None:
    if not c.encodes:
        return
    x = found.data.test[: found.settings.searched].float() / 255
    again = c.decode(c.encode(x))
    out["round_trip_error"] = float((again - x).abs().max())
    out["round_trip_psnr"] = float(psnr(again, x).mean())
    out["latent_error"] = codes.latent_error(c, BATCH, found.settings.seed)
    if c.label == "INN":
        k = min(found.get(other, "latents") or out["latents"] for other in found.labels)
        out["kept"] = k
        out["kept_psnr"] = float(psnr(codes.keep_largest(c, x, k), x).mean())
        out["latent_norm"] = float(c.encode(x).flatten(1).square().mean(1).sqrt().mean())


def _ranges(found: Findings, c: Contestant, out: dict[str, Any]) -> None:
    s = found.settings
    for kind, images in (("test", found.data.test), ("other", found.data.other)):
        x = images[: s.searched].float() / 255
        closest = codes.closest(c, x, s.restarts, s.steps, s.seed)
        found.closest.setdefault(kind, {})[c.label] = closest
        decibels = psnr(closest, x, clip=False)
        out[f"{kind}_psnr"] = float(decibels.mean())
        out[f"{kind}_worst_psnr"] = float(decibels.min())
        out[f"{kind}_worst_error"] = float((closest - x).abs().max())


def _costs(found: Findings, c: Contestant, out: dict[str, Any]) -> None:
    x = likelihood.dequantized(found.data.test, found.settings.seed)
    batch = x.repeat(found.settings.memory_batch // len(x) + 1, 1, 1, 1)
    batch = batch[: found.settings.memory_batch].to(c.device)
    out["step_bytes"] = cost.step_bytes(c, batch)
    if c.label == "INN":
        out["step_bytes_reversible"] = cost.step_bytes(c, batch, "reversible")
        found.depth = cost.bytes_by_depth(c.model, batch, c.sigma)
    out |= {f"ms_{key}": value for key, value in cost.times(c, batch).items()}


def _samples(found: Findings, c: Contestant, out: dict[str, Any]) -> None:
    s = found.settings
    real = found.data.test.float() / 255
    features = RandomFeatures(real)
    target = features(real)
    for temperature in dict.fromkeys((s.temperature, 1.0)):
        drawn = c.draw(s.draws, temperature, s.seed)
        if temperature == s.temperature:
            found.samples[c.label] = drawn
        out[f"frechet_at_{temperature:g}"] = frechet(features(drawn), target)
    if c.label == "INN":
        found.frechet_floor = frechet(target[::2], target[1::2])
