"""From settings to a model, and from a trained model to a folder others can load."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from .. import flows, generators
from ..errors import InnverseError, UsageError
from ..models.cards import Card
from ..models.store import load
from ..physics.as_images import channels_of

if TYPE_CHECKING:
    from .config import TableTrainingConfig, TrainingConfig


def build_model(config: TrainingConfig):
    """The flow or generator of ``[model]`` for crops of ``[data]``.

    Raises:
        UsageError: the model has no such option, or its value does not fit.
    """
    room = generators if config.model.name in generators.names() else flows
    options = config.model.options
    if config.model.noise is not None:
        options["noise"] = config.model.noise
    if config.condition is not None:
        if room is generators:
            raise UsageError(f"[condition] is for flows, and {config.model.name} is a generator")
        options["condition"] = channels_of(config.shape[0])
    model = built(room, config.model.name, config.shape, options)
    model.x_range, model.units = config.data.range, config.data.units or ""
    if room is flows:
        turned = {"mirror": config.data.flip, "transpose": config.data.transpose}
        model.symmetries = tuple(name for name, on in turned.items() if on)
        if config.condition is not None:
            if not model.maps:
                raise UsageError(
                    f"[condition] is a map, and [model] name = {config.model.name!r} takes vectors "
                    "only: choose glow or realnvp, with how = 'concat'"
                )
            model.measurement = config.condition.describe()
    if config.model.init is not None:
        trained = load(config.model.init)
        try:
            model.load_state_dict(trained.state_dict())
        except RuntimeError:
            raise UsageError(
                f"model.init = {config.model.init!r} is a {trained.name} with options "
                f"{trained.config}; give [model] the same ones"
            ) from None
    return model


def built(room, name: str, shape: tuple[int, ...], options: dict):
    """``room.build``, whose complaints about options are the user's."""
    try:
        return room.build(name, shape, **options)
    except InnverseError:
        raise
    except (TypeError, ValueError) as e:
        raise UsageError(f"[model] name = {name!r}: {e}") from None


def save_model(model, folder: Path, config: TrainingConfig, facts: dict, report: str = "") -> None:
    """Save weights and configuration for ``innverse.load``, with a card beside them, and on it the
    ``report`` of whether the prior is good enough."""
    d, t = config.data, config.train
    subset = f" (subset {d.subset})" if d.subset else ""
    color = "gray" if d.channels == 1 else "RGB"
    units = f"values {d.range[0]:g} to {d.range[1]:g} {d.units or ''}".rstrip() if d.range else ""
    data = (
        f"{facts['n_train']} {color} images of `{Path(d.path).name}`{subset}, random\n"
        f"{d.crop}x{d.crop} crops; {facts['n_held_out']} images held out."
        + (f"\nThe model has at 0 and 1 the {units}." if units else "")
    )
    training = (
        f"{facts['steps']} steps of {t.batch_size} crops on {facts['device']} in\n"
        f"{facts['seconds'] / 60:.1f} minutes, {facts['processor_seconds'] / 60:.1f} of processor "
        f"time;\n{facts['skipped']} steps refused as unstable. The weights are the moving average."
    )
    card = model_card(config, *_kind(model), data, training, facts["command"], facts["held_out"])
    if report:
        card += f"\n## Is it good enough?\n{report}\n\n![samples](samples.png)\n"
    model.save_pretrained(folder, card=card)


def model_card(
    config: TrainingConfig | TableTrainingConfig,
    tags: str,
    kind: str,
    data: str,
    training: str,
    command: str,
    results: dict[str, float],
) -> str:
    """Markdown: what the model is, what it was trained on and how, what it reaches."""
    settings = config.model_dump(mode="json", exclude={"out"}, exclude_none=True)
    # the folder on somebody's machine helps nobody
    settings["data"]["path"] = Path(config.data.path).name
    results = {_UNITS.get(k, k): v for k, v in results.items()}
    title = config.out.name or "model"
    return str(
        Card(
            title,
            tags,
            kind,
            data,
            config.data.license,
            training,
            _public(command),
            settings,
            results,
        )
    )


def _public(command: str) -> str:
    """The command line without the folders of somebody's machine."""
    words = (re.sub(r"^(--[\w-]+=)?~?/.*/", r"\1", word) for word in shlex.split(command))
    return shlex.join(words) or "innverse train settings.toml"


_UNITS = {
    "bits_per_dim_bound": "bits/dim on held-out 8-bit crops, at most (64 importance samples)",
    "reconstruction_psnr": "dB, held-out crops from their codes",
    "code_nats": "nats for each number of a held-out crop's code, without the volume of the manifold",
    "critic_real": "critic's mean verdict on held-out crops",
    "critic_fake": "critic's mean verdict on samples",
    "bits_per_dim": "bits/dim on held-out 8-bit crops",
    "gap": "nats/dim above the entropy of the noise, held-out crops",
    "psnr": "dB, one-step denoising of held-out crops at sigma 25/255",
    "nll": "nats a row, negative log-likelihood of held-out rows",
}


def _kind(model) -> tuple[str, str]:
    """Tags, and one sentence on what the model is."""
    n = f"{model.n_parameters:,} parameters"
    parts = [f"{name} {_size(net):,}" for name, net in model.named_children()]
    if isinstance(model, generators.VAE):
        return f"variational-autoencoder, {model.name}", (
            f"A variational autoencoder ({n}: {', '.join(parts)}): {model.latent} latents, images "
            f"with noise of standard deviation {model.scale:.4f} (images in [0, 1]) around G(z)"
        )
    if isinstance(model, generators.GAN):
        return f"generative-adversarial-network, {model.name}", (
            f"A generative adversarial network ({n}: {', '.join(parts)}): {model.latent} latents, "
            "no likelihood and no encoder"
        )
    if hasattr(model, "project"):
        return f"normalizing-flow, injective-flow, {model.name}", (
            f"An injective flow ({n}: {', '.join(parts)}): codes of {model.latent_shape[0]} numbers, "
            "and an exact density on the manifold of the images that they make"
        )
    kind = "an exact density of images"
    if model.measurement is not None:
        told = model.measurement
        kind += (
            f" plus Gaussian noise of standard deviation {told['sigma']:g}, given a measurement "
            f"({told['physics']}; images in [0, 1])"
        )
    if model.noise_range is not None:
        low, high = model.noise_range
        kind += (
            f" plus Gaussian noise, for every noise level sigma in [{low:g}, {high:g}] (images in "
            "[0, 1])"
        )
    return f"normalizing-flow, invertible-neural-network, {model.name}", (
        f"An invertible neural network ({model.name}, {n}): {kind}"
    )


def _size(net) -> int:
    return sum(p.numel() for p in net.parameters())
