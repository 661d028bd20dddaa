"""From settings to a flow, and from a trained flow to a folder others can load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from innverse.data.atomic import atomic_write
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
        options["noise_range"] = config.model.noise
    try:
        flow = flows.build(config.model.name, config.shape, **options)
    except InnverseError:
        raise
    except (TypeError, ValueError) as e:
        raise UsageError(f"[model] name = {config.model.name!r}: {e}") from None
    return flow


def save_model(flow, folder: Path, config: TrainingConfig, facts: dict, command: str) -> None:
    """Save weights and configuration for ``Flow.from_pretrained``, with a card beside them."""
    flow.save_pretrained(folder)
    atomic_write(folder / "README.md", model_card(config, facts, command).encode())


def model_card(config: TrainingConfig, facts: dict, command: str) -> str:
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
    settings["data"].pop("path")  # a path of somebody's machine helps nobody
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
{facts["steps"]} steps of {config.train.batch_size} crops in {facts["seconds"] / 60:.1f} minutes on
{facts["device"]}; {facts["skipped"]} steps refused as unstable. The weights are the moving average.

    {command}

```json
{json.dumps(settings, indent=1)}
```

## Results
| measure | value |
|---|---|
{numbers or "| none (no held-out images) | |"}
"""
