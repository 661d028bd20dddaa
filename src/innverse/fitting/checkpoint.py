"""Checkpoints: tensors in safetensors, everything else in JSON, both checked by SHA-256.

A checkpoint of step n is the pair ``n.safetensors`` and ``n.json``. The tensors are written first;
the JSON, which holds their hash and its own, is renamed into place last and is what makes the
checkpoint exist. A process killed at any moment, or a full disk, therefore leaves the previous
checkpoint as it was.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.atomic import atomic_write, write_error
from ..errors import InnverseError, InputError
from ..reading import parse_json, read_bytes

FORMAT = 1
"""Version of the layout; a checkpoint of another version is refused."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to continue: ``tensors`` by name and JSON-able ``state``."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """The tensors by what stands before and behind the first slash of their names."""
        found: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, tensor in self.tensors.items():
            kind, _, rest = name.partition("/")
            found[kind][rest] = tensor
        return found


def grouped(**groups: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint of which `Checkpoint.groups` gives ``groups`` back."""
    return {f"{kind}/{name}": t for kind, named in groups.items() for name, t in named.items()}


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write a checkpoint into ``folder``, then remove all but the newest ``keep``.

    Raises:
        InnverseError: no permission, or the disk is full; older checkpoints survive.
    """
    from safetensors.torch import save

    stem = f"{checkpoint.step:09d}"
    tensors = {name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}
    data = save(tensors)
    record = {
        "format": FORMAT,
        "step": checkpoint.step,
        "tensors_sha256": hashlib.sha256(data).hexdigest(),
        "state": _written(checkpoint.state),
    }
    record["sha256"] = _digest(record)
    path = folder / f"{stem}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        atomic_write(folder / f"{stem}.safetensors", data)
        atomic_write(path, json.dumps(record, indent=1).encode())
    except (OSError, InnverseError) as e:
        (folder / f"{stem}.safetensors").unlink(missing_ok=True)
        older = _records(folder)
        kept = (
            f"the checkpoint of step {int(older[0].stem)} is intact" if older else "none is saved"
        )
        reason = e if isinstance(e, InnverseError) else f"cannot write {folder}: {e.strerror}"
        raise InnverseError(f"{reason} ({kept}; then the same command continues)") from e
    for old in _records(folder)[keep:]:
        old.unlink(missing_ok=True)
        old.with_suffix(".safetensors").unlink(missing_ok=True)
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The JSON file of the newest checkpoint in ``folder``, or None."""
    records = _records(folder)
    return records[0] if records else None


def remove_checkpoints(folder: Path) -> None:
    """Delete all checkpoints in ``folder``, to start over.

    Raises:
        InnverseError: no permission.
    """
    try:
        for record in _records(folder):
            record.unlink(missing_ok=True)
        _sweep(folder)
    except OSError as error:
        raise write_error(folder, error) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint (the path of its JSON file) and check every byte of it.

    Raises:
        InputError: damaged, truncated or of another format version; the message says what to do.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    weights = path.with_suffix(".safetensors")
    advice = f"delete {path} to go on from the checkpoint before it, or start over with --no-resume"
    try:
        record, data = parse_json(read_bytes(path)), read_bytes(weights)
    except InputError as e:
        raise InputError(f"{e}; {advice}") from None
    except ValueError as e:
        raise InputError(f"checkpoint {path} is damaged (not JSON: {e}); {advice}") from None
    if not isinstance(record, Mapping) or "format" not in record:
        raise InputError(f"checkpoint {path} is damaged (no format version); {advice}")
    if record["format"] != FORMAT:
        raise InputError(
            f"checkpoint {path} has format {record['format']}, this innverse reads format {FORMAT}: "
            "continue it with the version that wrote it, or start over with --no-resume"
        )
    if record.get("sha256") != _digest(record):
        raise InputError(f"checkpoint {path} is damaged (its checksum does not match); {advice}")
    if record.get("tensors_sha256") != hashlib.sha256(data).hexdigest():
        raise InputError(f"checkpoint {weights} is damaged (checksum does not match); {advice}")
    try:
        tensors, step, state = load(data), record["step"], _read(record["state"])
    except (SafetensorError, KeyError, ValueError, RuntimeError) as e:
        reason = " ".join(str(e).split())[:100]
        raise InputError(f"checkpoint {path} is damaged ({reason}); {advice}") from None
    if not (type(step) is int and step >= 0 and isinstance(state, dict)):
        raise InputError(f"checkpoint {path} is damaged (no step or no state); {advice}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            raise InputError(f"checkpoint {weights} is unusable ({name} is not finite); {advice}")
    return Checkpoint(step, tensors, state)


def _written(value: Any) -> Any:
    """``value`` in JSON, which knows no infinity and no NaN: ``{"float": "inf"}`` stands for it."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, Mapping):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    return value


def _read(value: Any) -> Any:
    """What `_written` was given."""
    if isinstance(value, dict):
        if value.keys() == {"float"}:
            return float(value["float"])
        return {key: _read(item) for key, item in value.items()}
    return [_read(item) for item in value] if isinstance(value, list) else value


def _digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record without its own ``sha256`` entry."""
    body = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _records(folder: Path) -> list[Path]:
    """JSON files of all checkpoints, newest first."""
    return sorted((p for p in folder.glob("*.json") if p.stem.isdigit()), reverse=True)


def _sweep(folder: Path) -> None:
    """Remove what a killed process left: temporary files, and tensors without a record."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)
    for weights in folder.glob("*.safetensors"):
        if not weights.with_suffix(".json").exists():
            weights.unlink(missing_ok=True)
