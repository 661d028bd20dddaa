"""Models on disk: config.json + model.safetensors + README.md, never pickle.

Flows and generators share the layout; the ``format`` of the config says which registry builds it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes

from . import __version__, flows, generators
from .data.atomic import atomic_write
from .errors import InnverseError, InputError

ROOMS = {"innverse-flow": flows, "innverse-generator": generators}
FORMAT_VERSION = 1
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def save(model, folder: Path, card: str | None = None) -> None:
    """Write ``model`` into ``folder``; the config goes last, so that a torn write is noticed."""
    if model.name is None:
        raise InnverseError(
            "only models made by innverse.flows.build or innverse.generators.build can be saved "
            "with their structure; for your own, save model.state_dict() with safetensors"
        )
    kind = "innverse-generator" if isinstance(model, generators.Generator) else "innverse-flow"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    weights = tensor_bytes(tensors, metadata={"format": "pt"})
    config = {
        "format": kind,
        "format_version": FORMAT_VERSION,
        "innverse": __version__,
        "name": model.name,
        "shape": list(model.shape),
        "config": model.config,
        **({"symmetries": list(model.symmetries)} if getattr(model, "symmetries", ()) else {}),
        "parameters": model.n_parameters,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    atomic_write(folder / WEIGHTS, weights)
    atomic_write(
        folder / CARD, card or f"# {model.name}\n\nA model saved by innverse {__version__}.\n"
    )
    atomic_write(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def load(path_or_id: str | Path, *, trainable: bool = False):
    """The flow or generator in a folder (or, with huggingface_hub installed, on the hub), in eval mode.

    Parameters do not require gradients unless ``trainable``. Raises InputError when the folder is
    missing, was written by another version, or its weights are damaged.
    """
    folder = Path(path_or_id)
    if not folder.is_dir():
        folder = _download(str(path_or_id))
    config = _read_config(folder / CONFIG)
    weights = read_bytes(folder / WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != config["sha256"]:
        raise InputError(f"{folder / WEIGHTS} is damaged (its checksum differs): fetch it again")
    build = ROOMS[config["format"]].build
    model = build(config["name"], config["shape"], **config["config"])
    model.load_state_dict(read_tensors(weights))
    if "symmetries" in config:
        model.symmetries = _symmetries(config["symmetries"], folder / CONFIG)
    return model.eval().requires_grad_(trainable)


def _read_config(path: Path) -> dict:
    data = read_bytes(path)
    try:
        config = json.loads(data)
    except ValueError:
        raise InputError(f"{path} is not valid JSON: fetch or save the model again") from None
    if not isinstance(config, dict) or config.get("format") not in ROOMS:
        raise InputError(f"{path} does not describe an innverse model")
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {version}, this innverse reads {FORMAT_VERSION}: "
            "update innverse or save the model again"
        )
    missing = {"name", "shape", "config", "sha256"} - config.keys()
    if missing:
        raise InputError(f"{path} lacks {', '.join(sorted(missing))}: save the model again")
    return config


def _symmetries(given, path: Path) -> tuple[str, ...]:
    if not isinstance(given, list) or any(s not in ("mirror", "transpose") for s in given):
        raise InputError(
            f'{path} gives symmetries {given!r}: they are a list of "mirror" and "transpose"'
        )
    return tuple(given)


def read_bytes(path: Path) -> bytes:
    """The content of a file; InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}") from None


def _download(name: str) -> Path:
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise InputError(f"{name} is no folder with a saved model")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise InputError(
            f"{name} is no folder; to fetch it from the hub install innverse[hub]"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=[WEIGHTS, CONFIG, CARD]))
    except Exception as e:
        raise InputError(f"cannot fetch {name} from the hub: {str(e).splitlines()[0]}") from None
