"""Files that scanners leave: sinograms with their flats, darks and angles, and k-space of coils."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..errors import InputError
from .files import read_array, split_name
from .formats import hdf5, matlab

SINOGRAMS = (".h5", ".hdf5", ".hdf", ".nxs")
KSPACES = (".h5", ".hdf5", ".mat", ".npy")

_NO_SINOGRAM = "exchange/data, data_white, data_dark and theta (Data Exchange)"
_NO_KSPACE = "kspace (fastMRI), dataset/data (ISMRMRD), or in a .mat one complex array with coils"
# Flags of acquisitions in ISMRMRD that hold no image: noise, navigators, phase correction, feedback,
# dummies, correction of the surface coil
_NO_IMAGE = sum(1 << (bit - 1) for bit in (19, 23, 24, 26, 27, 28, 29))
_BACKWARDS = 1 << 21
_PICTURES = ("slice", "contrast", "phase", "repetition", "set")  # indices that tell pictures apart


@dataclass
class Sinogram:
    """Counts behind a body.

    Attributes:
        counts: (slices, views, detectors).
        flat, dark: of the open beam, and without a beam, (frames, slices, detectors); None where
            the file has none.
        angles: of the views in degrees; None where the file has none.
    """

    counts: np.ndarray
    flat: np.ndarray | None
    dark: np.ndarray | None
    angles: np.ndarray | None


@dataclass
class KSpace:
    """What coils measured.

    Attributes:
        values: (slices, coils, H, W), complex64, low frequencies in the middle, 0 where nothing was
            measured.
        size: (H, W) of the picture, where the field of view is larger; else None.
    """

    values: np.ndarray
    size: tuple[int, int] | None = None


def read_sinogram(path: str | Path) -> Sinogram:
    """A sinogram in the Data Exchange layout of HDF5.

    Raises:
        InputError: unreadable, another layout, or parts that do not fit together.
        InnverseError: h5py is missing.
    """
    path = Path(path)
    with hdf5.opened(path) as file:
        group = file.get("exchange", {})
        if "data" not in group:
            raise _other_layout(path, file, _NO_SINOGRAM)

        def load(name: str) -> np.ndarray:
            return hdf5.load(file, f"exchange/{name}", path).astype(np.float64)

        counts = load("data")
        angles = load("theta").ravel() if "theta" in group else None
        flat, dark = (load(n) if n in group else None for n in ("data_white", "data_dark"))
        units = "" if angles is None else hdf5.text(group["theta"].attrs.get("units", ""))
    angles = None if angles is None else _degrees(path, angles, units.lower())
    if counts.ndim != 3 or len(counts) != len(counts if angles is None else angles):
        views = "" if angles is None else f" {len(angles)} angles: it"
        raise InputError(
            f"{path}: exchange/data of shape {counts.shape} does not fit{views} must be (views, "
            "slices, detectors)"
        )
    flat, dark = (t[None] if t is not None and t.ndim == 2 else t for t in (flat, dark))
    for name, frames in (("data_white", flat), ("data_dark", dark)):
        if frames is not None and frames.shape[1:] != counts.shape[1:]:
            raise InputError(
                f"{path}: {name} of shape {frames.shape} does not fit the detector of exchange/data, "
                f"{counts.shape[1]} slices x {counts.shape[2]} bins"
            )
    return Sinogram(counts.swapaxes(0, 1), flat, dark, angles)


def _degrees(path: Path, angles: np.ndarray, units: str) -> np.ndarray:
    """Angles in ``units``, where they can be meant so."""
    if not np.isfinite(angles).all():
        raise InputError(f"{path}: exchange/theta holds NaN or Inf: give the option angles")
    turn, most = 2 * np.pi + 1e-6, float(np.abs(angles).max(initial=0))
    if units.startswith("rad"):
        if most > 10 * turn:
            raise InputError(
                f"{path}: exchange/theta reaches {most:.4g} and is called radians, which look like "
                "degrees: set its attribute units to degrees"
            )
        return np.rad2deg(angles)
    if len(angles) > 8 and most <= turn:
        raise InputError(
            f"{path}: exchange/theta reaches {most:.3g} and is called {units or 'nothing'}, which look "
            "like radians: set its attribute units to radians"
        )
    return angles


def read_kspace(path: str | Path) -> KSpace:
    """k-space of several coils: HDF5 as fastMRI or ISMRMRD lays it out, or a MATLAB array.

    In a .mat the shortest axis is taken for that of the coils, in a .npy the one before (H, W). One of
    several arrays is named as ``file.mat:name``, or called kspace. Of ISMRMRD every contrast, phase,
    repetition and set counts as a slice.

    Raises:
        InputError: unreadable, or another layout.
        InnverseError: h5py or scipy is missing.
    """
    path, name = split_name(path)
    suffix, size = path.suffix.lower(), None
    if suffix == ".mat":
        return KSpace(_of_matlab(path, name))
    if suffix == ".npy":
        values = read_array(path)
        values = values.reshape(-1, *values.shape[-3:]) if values.ndim < 4 else values
        return KSpace(_complex(path, values if values.ndim > 2 else values[None, None]))
    with hdf5.opened(path) as file:
        if name is not None and name.strip("/") not in file:
            raise _other_layout(path, file, name)
        if name is not None or "kspace" in file:
            values = hdf5.load(file, name or "kspace", path)
            if values.ndim == 3:  # of a single coil
                values = values[:, None]
            for target in ("reconstruction_rss", "reconstruction_esc"):
                if target in file:
                    height, width = file[target].shape[-2:]
                    size = int(height), int(width)
        elif "dataset" in file and "data" in file["dataset"]:
            values, size = _of_ismrmrd(path, file["dataset"])
        else:
            raise _other_layout(path, file, _NO_KSPACE)
    return KSpace(_complex(path, values), size)


def _complex(path: Path, values: np.ndarray) -> np.ndarray:
    if values.ndim != 4 or values.dtype.kind != "c":
        raise InputError(
            f"{path}: k-space must be complex, (slices, coils, H, W), got {values.dtype} "
            f"{values.shape}"
        )
    return values.astype(np.complex64)


def _of_matlab(path: Path, name: str | None) -> np.ndarray:
    found = matlab.arrays(path)
    stacks = {n: v for n, v in found.items() if np.iscomplexobj(v) and min(v.shape) > 1}
    stacks = {n: v for n, v in stacks.items() if v.ndim in (2, 3)}
    called = name or next((n for n in stacks if n.lower() in ("kspace", "ksp", "k")), None)
    if called is None and len(stacks) == 1:
        (called,) = stacks
    if called not in stacks:
        several = f"one complex array with coils, named as {path}:NAME" if stacks else _NO_KSPACE
        raise _other_layout(path, found, name or several)
    values = stacks[called] if stacks[called].ndim == 3 else stacks[called][..., None]
    return np.moveaxis(values, int(np.argmin(values.shape)), 0)[None].astype(np.complex64)


def _of_ismrmrd(path: Path, group: Any) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Lines of a Cartesian scan, each at its place; those of one place are averaged."""
    try:
        text = group["xml"][0]
        header = ElementTree.fromstring(text if isinstance(text, bytes) else str(text))
        space = {"x": "http://www.ismrm.org/ISMRMRD"}

        def matrix(which: str) -> tuple[int, int]:
            at = f"x:encoding/x:{which}/x:matrixSize/x:"
            x, y = (int(header.findtext(at + axis, "", space)) for axis in "xy")
            return x, y

        (columns, rows), picture = matrix("encodedSpace"), matrix("reconSpace")
        kind = header.findtext("x:encoding/x:trajectory", "cartesian", space)
        limits = "x:encoding/x:encodingLimits/x:kspace_encoding_step_1/x:center"
        first_row = rows // 2 - int(header.findtext(limits, f"{rows // 2}", space))
        lines = [a for a in group["data"][()] if not int(a["head"]["flags"]) & _NO_IMAGE]
        heads = [a["head"] for a in lines]
        known = heads[0]["idx"].dtype.names
        kinds = [tuple(int(h["idx"][key]) for key in _PICTURES if key in known) for h in heads]
        pictures = {kind: k for k, kind in enumerate(sorted(set(kinds)))}
        steps = [first_row + int(h["idx"]["kspace_encode_step_1"]) for h in heads]
        thick = {
            int(h["idx"][key]) for h in heads for key in known if key == "kspace_encode_step_2"
        }
        coils = int(heads[0]["active_channels"])
    except (KeyError, IndexError, ValueError, ElementTree.ParseError) as error:
        raise InputError(f"{path}: dataset is not as ISMRMRD has it ({error})") from None
    if kind != "cartesian":
        raise InputError(f"{path}: its trajectory is {kind}; only Cartesian lines are read")
    if len(thick) > 1:
        raise InputError(f"{path} is encoded in three directions; only slices are read")
    if any(int(h["flags"]) & _BACKWARDS for h in heads):
        raise InputError(
            f"{path} has lines that were read backwards (EPI), which need a correction of their phase "
            "first"
        )
    values = np.zeros((len(pictures), coils, columns, rows), np.complex64)
    count = np.zeros((len(pictures), rows))
    for line, head, kind_of, step in zip(lines, heads, kinds, steps, strict=True):
        where = pictures[kind_of]
        samples = np.asarray(line["data"], np.float32).view(np.complex64)
        n = int(head["number_of_samples"])
        first = columns // 2 - int(head["center_sample"])
        if samples.size != coils * n or not 0 <= first <= columns - n or not 0 <= step < rows:
            raise InputError(
                f"{path}: a line of {samples.size} samples at step {step} does not fit {coils} "
                f"coils and a matrix of {columns}x{rows}"
            )
        values[where, :, first : first + n, step] += samples.reshape(coils, n)
        count[where, step] += 1
    values /= np.maximum(count, 1)[:, None, None]
    return values, picture


def _other_layout(path: Path, file: Mapping[str, Any], wanted: str) -> InputError:
    has = ", ".join(sorted(map(str, file))[:8]) or "nothing"
    return InputError(f"{path} holds no scan that is known here: {wanted}; it has {has}")
