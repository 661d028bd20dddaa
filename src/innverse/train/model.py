"""From settings to a flow, and from a trained flow to a folder others can load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from innverse import __version__
from innverse.errors import InnverseError, UsageError

if TYPE_CHECKING:
    from innverse.train.config import TrainingConfig

__all__ = ["build_flow", "model_card", "save_model"]


def build_flow(config: TrainingConfig):
    """The flow of ``[model]`` for crops of ``[data]``.

    Raises:
        UsageError: the model has no such option, or its value does not fit.
    """
    from innverse import flows

    options = config.model.options
    if config.model.noise is not None:
        options["noise"] = config.model.noise
    try:
        flow = flows.build(config.model.name, config.shape, **options)
    except InnverseError:
        raise
    except (TypeError, ValueError) as e:
        raise UsageError(f"[model] name = {config.model.name!r}: {e}") from None
    if config.model.init is not None:
        trained = flows.Flow.from_pretrained(config.model.init)
        try:
            flow.load_state_dict(trained.state_dict())
        except RuntimeError:
            raise UsageError(
                f"model.init = {config.model.init!r} is a {trained.name} with options "
                f"{trained.config}; give [model] the same ones"
            ) from None
    return flow


def save_model(flow, folder: Path, config: TrainingConfig, facts: dict) -> None:
    """Save weights and configuration for ``Flow.from_pretrained``, with a card beside them."""
    flow.save_pretrained(folder, card=model_card(config, facts))


def model_card(config: TrainingConfig, facts: dict) -> str:
    """Markdown: what the model is, what it was trained on and how, what it reaches."""
    name = config.out.name or "model"
    noise = config.model.noise
    kind = "an exact density of images"
    if noise is not None:
        kind = (
            "an exact density of images plus Gaussian noise, for every noise level sigma in "
            f"[{noise[0]:g}, {noise[1]:g}] (images in [0, 1])"
        )
    units = {
        "bits_per_dim": "bits/dim on held-out 8-bit crops",
        "gap": "nats/dim above the entropy of the noise, held-out crops",
        "psnr": "dB, one-step denoising of held-out crops at sigma 25/255",
    }
    numbers = "\n".join(
        f"| {units.get(key, key)} | {value:.4f} |" for key, value in facts["held_out"].items()
    )
    settings = config.model_dump(mode="json", exclude={"out"}, exclude_none=True)
    # the folder on somebody's machine helps nobody
    settings["data"]["path"] = Path(config.data.path).name
    toml = "\n\n".join(
        f"[{table}]\n" + "\n".join(f"{key} = {_toml(value)}" for key, value in entries.items())
        for table, entries in settings.items()
    )
    subset = f" (subset {config.data.subset})" if config.data.subset else ""
    color = "gray" if config.data.channels == 1 else "RGB"
    return f"""---
library_name: innverse
tags: [normalizing-flow, invertible-neural-network, {config.model.name}]
---
# {name}

An invertible neural network ({config.model.name}, {facts["parameters"]:,} parameters): {kind}.

```python
from innverse.flows import Flow
flow = Flow.from_pretrained("path/to/this/folder")
```

## Data
{facts["n_train"]} {color} images of `{Path(config.data.path).name}`{subset}, random
{config.data.crop}x{config.data.crop} crops; {facts["n_held_out"]} images held out.
License of the data: {config.data.license}.

## Training
{facts["steps"]} steps of {config.train.batch_size} crops on {facts["device"]} in
{facts["seconds"] / 60:.1f} minutes, {facts["processor_seconds"] / 60:.1f} of processor time;
{facts["skipped"]} steps refused as unstable. The weights are the moving average.
The settings of `innverse train` (innverse {__version__}):

```toml
{toml}
```

## Results
| measure | value |
|---|---|
{numbers or "| none (no held-out images) | |"}
"""


def _toml(value) -> str:
    """A JSON value in TOML; the two agree but for inf and nan, which no setting is."""
    return json.dumps(value)
