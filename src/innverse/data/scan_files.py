"""Files that scanners leave: sinograms with their flats, darks and angles, and k-space of coils."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..errors import InputError
from .formats import hdf5, matlab

SINOGRAMS = (".h5", ".hdf5", ".hdf", ".nxs")
KSPACES = (".h5", ".hdf5", ".mat")

_NO_SINOGRAM = "exchange/data, data_white, data_dark and theta (Data Exchange)"
_NO_KSPACE = "kspace (fastMRI), dataset/data (ISMRMRD), or in a .mat one complex array with coils"
_NOISE_SCAN = 1 << 18  # flag of an acquisition in ISMRMRD that holds no image


@dataclass
class Sinogram:
    """Counts behind a body.

    Attributes:
        counts: (slices, views, detectors).
        flat, dark: of the open beam, and without a beam, (frames, slices, detectors); None where
            the file has none.
        angles: of the views in degrees.
    """

    counts: np.ndarray
    flat: np.ndarray | None
    dark: np.ndarray | None
    angles: np.ndarray


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
        if "data" not in group or "theta" not in group:
            raise _other_layout(path, file, _NO_SINOGRAM)

        def load(name: str) -> np.ndarray:
            return hdf5.load(file, f"exchange/{name}", path).astype(np.float64)

        counts, angles = load("data"), load("theta").ravel()
        flat, dark = (load(n) if n in group else None for n in ("data_white", "data_dark"))
        units = str(group["theta"].attrs.get("units", ""))
    angles = _degrees(path, angles, units)
    if counts.ndim != 3 or len(counts) != len(angles):
        raise InputError(
            f"{path}: exchange/data of shape {counts.shape} does not fit {len(angles)} angles: it must "
            "be (views, slices, detectors)"
        )
    for name, frames in (("data_white", flat), ("data_dark", dark)):
        if frames is not None and frames.shape[1:] != counts.shape[1:]:
            raise InputError(
                f"{path}: {name} of shape {frames.shape} does not fit the detector of exchange/data, "
                f"{counts.shape[1]} slices x {counts.shape[2]} bins"
            )
    return Sinogram(counts.swapaxes(0, 1), flat, dark, angles)


def _degrees(path: Path, angles: np.ndarray, units: str) -> np.ndarray:
    """Angles in ``units``, where they can be meant so."""
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

    In a .mat the shortest axis is taken for that of the coils.

    Raises:
        InputError: unreadable, or another layout.
        InnverseError: h5py or scipy is missing.
    """
    path = Path(path)
    if path.suffix.lower() == ".mat":
        return KSpace(_of_matlab(path))
    with hdf5.opened(path) as file:
        if "kspace" in file:
            values = hdf5.load(file, "kspace", path)
            if values.ndim == 3:  # of a single coil
                values = values[:, None]
            size = None
            for target in ("reconstruction_rss", "reconstruction_esc"):
                if target in file:
                    height, width = file[target].shape[-2:]
                    size = int(height), int(width)
        elif "dataset" in file and "data" in file["dataset"]:
            values, size = _of_ismrmrd(path, file["dataset"])
        else:
            raise _other_layout(path, file, _NO_KSPACE)
    if values.ndim != 4 or values.dtype.kind != "c":
        raise InputError(
            f"{path}: k-space must be complex, (slices, coils, H, W), got {values.dtype} "
            f"{values.shape}"
        )
    return KSpace(values.astype(np.complex64), size)


def _of_matlab(path: Path) -> np.ndarray:
    found = matlab.arrays(path)
    stacks = [v for v in found.values() if np.iscomplexobj(v) and v.ndim == 3]
    if len(stacks) != 1:
        raise _other_layout(path, found, _NO_KSPACE)
    (values,) = stacks
    return np.moveaxis(values, int(np.argmin(values.shape)), 0)[None].astype(np.complex64)


def _of_ismrmrd(path: Path, group: Any) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Lines of a Cartesian scan, each at its place; repeated ones are averaged."""
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
        lines = [a for a in group["data"][()] if not int(a["head"]["flags"]) & _NOISE_SCAN]
        heads = [a["head"] for a in lines]
        at = [(int(h["idx"]["slice"]), int(h["idx"]["kspace_encode_step_1"])) for h in heads]
        coils = int(heads[0]["active_channels"])
        slices = 1 + max(s for s, _ in at)
    except (KeyError, IndexError, ValueError, ElementTree.ParseError) as error:
        raise InputError(f"{path}: dataset is not as ISMRMRD has it ({error})") from None
    if kind != "cartesian":
        raise InputError(f"{path}: its trajectory is {kind}; only Cartesian lines are read")
    values = np.zeros((slices, coils, columns, rows), np.complex64)
    count = np.zeros((slices, rows))
    for line, head, (where, step) in zip(lines, heads, at, strict=True):
        samples = np.asarray(line["data"], np.float32).view(np.complex64)
        n = int(head["number_of_samples"])
        first = columns // 2 - int(head["center_sample"])
        if samples.size != coils * n or not 0 <= first <= columns - n or not step < rows:
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
