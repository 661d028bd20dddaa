"""The files of scientists by their formats: a table of readers and writers.

A format is a file in `formats/` with `array(path, name)`, `read(path, name)` and `write(path, stack,
values, spread)`, and a line in `FORMATS`. Its library is imported when it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, unknown
from .formats import dicom, tiff
from .image_io import is_image_name
from .stack import Stack

FORMATS = {
    "tiff": (".tif", ".tiff"),
    "dicom": (".dcm", ".dicom", ".ima"),
    "nifti": (".nii", ".nii.gz"),
    "hdf5": (".h5", ".hdf5", ".hdf", ".nxs"),
    "matlab": (".mat",),
    "npy": (".npy", ".npz"),
}
SUFFIXES = tuple(suffix for several in FORMATS.values() for suffix in several)


def format_of(path: str | os.PathLike) -> str | None:
    """The name of a file's format; None of other files. ``file.h5:name`` is what file.h5 is."""
    return _known(split_name(path)[0])


def split_name(path: str | os.PathLike) -> tuple[Path, str | None]:
    """``file.h5:name`` as the file and the name of one of its arrays."""
    text = os.fspath(path)
    file, colon, name = text.rpartition(":")
    if colon and name and not os.path.lexists(text) and _suffix(file):
        return Path(file), name
    return Path(text), None


def read_array(path: str | os.PathLike) -> np.ndarray:
    """The numbers of a file as they are, of any shape, in its units: kernels, sinograms, k-space.

    Args:
        path: .tif, .dcm, .nii, .h5, .mat (version 5 or 7.3, with MATLAB's order of axes), .npy or
            .npz. Of files with several arrays one is named as ``file.h5:name``, or the only one that
            may be a picture is taken.

    Raises:
        InputError: it cannot be read, or would fill the memory. UsageError: another kind of file.
        InnverseError: the library for it is not installed.

    Example:
        >>> import tempfile, numpy as np
        >>> file = tempfile.mkdtemp() + "/scan.npz"
        >>> np.savez(file, sinogram=np.ones((90, 128)), angles=np.arange(90))
        >>> read_array(file).shape, read_array(file + ":angles").shape
        ((90, 128), (90,))
    """
    file, name = split_name(path)
    return _module(_format(file)).array(file, name)


def read_stack(path: str | os.PathLike) -> Stack:
    """The slices of a file, or of the one DICOM series in a folder, in units with a range.

    Raises:
        InputError: it cannot be read, holds no pictures, or slices of mixed sizes. UsageError:
        another kind of file. InnverseError: the library for it is not installed.

    Example:
        >>> import tempfile, numpy as np
        >>> file = tempfile.mkdtemp() + "/slices.npy"
        >>> np.save(file, np.arange(2 * 8 * 8).reshape(2, 8, 8).astype(np.int16) - 100)
        >>> stack = read_stack(file)
        >>> stack.values.shape, stack.x_range
        ((2, 1, 8, 8), (-100.0, 27.0))
    """
    file, name = split_name(path)
    if not os.path.isdir(file):
        return _module(_format(file)).read(file, name)
    series = dicom_series(dicom.files_in(file))
    if len(series) != 1:
        raise InputError(f"{file} has {len(series)} DICOM series: give one")
    return dicom.read_series(series[0], str(file))


def write_stack(
    target: str | os.PathLike, stack: Stack, values: np.ndarray, spread: bool = False
) -> Path:
    """Write slices as a file of the format that ``stack`` was read from, with its metadata.

    Args:
        target: without a suffix. Missing folders are made; a series becomes a folder.
        stack: what was read.
        values: (N, C, H, W) in the units of the stack; H and W may differ, and pixels are then
            larger or smaller. They are rounded and clipped to the type that was read.
        spread: the values are deviations, which have no offset and get a type of their own.

    Returns:
        The file, or the folder of a series. It is written whole or not at all.

    Example:
        >>> import tempfile, numpy as np
        >>> folder = tempfile.mkdtemp()
        >>> np.save(folder + "/slices.npy", np.zeros((2, 8, 8), np.int16))
        >>> stack = read_stack(folder + "/slices.npy")
        >>> write_stack(folder + "/result", stack, stack.values + 1.2).name
        'result.npy'
    """
    kind, target = _format(stack.path), Path(target)
    suffix = ".dcm" if kind == "dicom" else _suffix(split_name(stack.path)[0].name)
    path = target.with_name(f"{target.name}{suffix}")
    return _module(kind).write(path, stack, values, spread)


def is_stack(path: Path) -> bool:
    """Whether a file is read here, and not as a picture: all formats, of TIFF those of several pages or
    of more than 8 bits."""
    kind = _known(path)
    return kind is not None and (kind != "tiff" or tiff.is_stack(path))


def stack_files(folder: Path, series: bool = False) -> Iterator[tuple[str, list[Path]]]:
    """The stacks of a folder: (name, files).

    DICOM wherever it lies; volumes where no pictures do, arrays of numpy and MATLAB where nothing else
    does (beside others they may be masks or kernels), pages of TIFF where all pictures are such.

    Args:
        series: DICOM files of a series as one stack, of this folder alone; else each as its own, and
            also what lies in the folders below.
    """
    places = [next(os.walk(folder), ("", [], []))] if series else os.walk(folder)
    found = [Path(place, name) for place, _, names in places for name in names]
    known = {p: _known(p) for p in sorted(found) if not p.name.startswith(".")}
    pictures = any(kind is None and is_image_name(p.name) for p, kind in known.items())
    deep = [p for p, kind in known.items() if kind == "tiff" and tiff.is_stack(p)]
    if pictures or len(deep) < [*known.values()].count("tiff"):
        deep = []
    slices = [p for p, kind in known.items() if kind == "dicom"]
    if series:
        several = dicom_series(slices)
        for files in several:
            yield (folder.name if len(files) > 1 == len(several) else files[0].name), files
    else:
        yield from ((str(p.relative_to(folder)), [p]) for p in slices)
    volumes = [p for p, kind in known.items() if kind in ("nifti", "hdf5") and not pictures]
    if not (pictures or slices or volumes or "tiff" in known.values()):
        volumes = [p for p, kind in known.items() if kind in ("npy", "matlab")]
    yield from ((str(p.relative_to(folder)), [p]) for p in sorted([*deep, *volumes]))


def read_files(files: list[Path], label: str) -> Stack:
    """A stack of `stack_files`; ``label`` names a series."""
    return read_stack(files[0]) if len(files) == 1 else dicom.read_series(files, label)


def dicom_series(files: list[Path]) -> list[list[Path]]:
    """DICOM files by series."""
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(dicom.series_uid(path), []).append(path)
    return [*found.values()]


def _suffix(name: str) -> str | None:
    lower = name.lower()
    return max((s for s in SUFFIXES if lower.endswith(s)), key=len, default=None)


def _known(path: Path) -> str | None:
    suffix = _suffix(path.name)
    for name, suffixes in FORMATS.items():
        if suffix in suffixes:
            return name
    return "dicom" if not is_image_name(path.name) and dicom.is_dicom(path) else None


def _format(path: str | os.PathLike) -> str:
    file = split_name(path)[0]
    kind = "dicom" if os.path.isdir(file) else _known(file)
    if kind is None:
        raise unknown("format of files", file.suffix or file.name, SUFFIXES)
    return kind


def _module(kind: str) -> Any:
    return import_module(f".formats.{kind}", __package__)
