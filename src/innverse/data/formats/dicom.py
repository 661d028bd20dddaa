"""DICOM: a file, or the files of a series, in the units that slope and intercept give (pydicom)."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InnverseError, InputError, ShapeError
from ...reading import open_regular
from ..atomic import atomic_write, write_together
from ..expansion import check_expansion, file_size
from ..stack import Stack, as_type, spanned

AIR, DENSE = -1024.0, 3071.0
"""Hounsfield units that 12 bits hold: no tissue lies below, metal alone above."""
_SCALE = "PixelValueTransformationSequence"
_NEGATIVE = "MONOCHROME1"


def is_dicom(path: Path) -> bool:
    """Whether a file has the mark of DICOM after its first 128 bytes, whatever it is called."""
    try:
        with open_regular(path) as file:
            return file.read(132)[128:] == b"DICM" and path.name != "DICOMDIR"
    except InputError:
        return False


def array(path: Path, name: str | None) -> np.ndarray:
    return read(path, name).values


def read(path: Path, name: str | None) -> Stack:
    """One file, of one slice or of many frames."""
    if name is not None:
        raise InputError(f"{path} is one picture or series: leave out {name!r}")
    return read_series([path])


def series_uid(path: Path) -> str:
    """Which series a file belongs to."""
    return str(_dataset(path, pixels=False).get("SeriesInstanceUID", ""))


def read_series(paths: Sequence[Path], label: str | None = None) -> Stack:
    """The slices of some files as one stack, in the order of their places in the body.

    Raises:
        InputError: no DICOM, no pixels, a CT without rescale slope and intercept, mixed sizes.
    """
    label = label or str(paths[0])
    sets = sorted(((_dataset(p), p) for p in paths), key=lambda pair: _place(*pair))
    frames = [_frames(dataset, path) for dataset, path in sets]
    sizes = {f.shape[1:]: path for f, (_, path) in zip(frames, sets, strict=True)}
    if len(sizes) > 1:
        (a, of_a), (b, of_b) = [*sizes.items()][:2]
        raise ShapeError(
            f"{label} has slices of mixed sizes, {a[1]}x{a[2]} ({of_a.name}) and {b[1]}x{b[2]} "
            f"({of_b.name}): put those of one size into a folder of their own"
        )
    first, values = sets[0][0], np.concatenate(frames)
    modality = str(first.get("Modality", ""))
    notes: list[str] = []
    if modality == "CT":
        outside = values < AIR
        if outside.any():
            notes.append(
                f"{outside.mean():.1%} of the values lie below {AIR:g} HU (padding around the field "
                f"of view) and are read as {AIR:g}"
            )
            values = np.where(outside, values.dtype.type(AIR), values)
        x_range, white, units = (AIR, max(DENSE, float(values.max()))), False, "HU"
    elif values.dtype == np.uint8:
        x_range, white, units = (0.0, 255.0), True, ""
    else:
        x_range = spanned(min(0.0, float(values.min())), float(values.max()))
        white, units = False, str(first.get("Units", None) or first.get("RescaleType", None) or "")
    names, groups, kept = [], [], []
    for part, (dataset, path) in zip(frames, sets, strict=True):
        n = len(part)
        names += [path.name] if n == 1 else [f"{path.name}[{k}]" for k in range(n)]
        groups += n * [str(dataset.get("PatientID", "") or dataset.get("SeriesInstanceUID", path))]
        kept.append((_without_pixels(dataset), path.name, n))
    facts = tuple(names), tuple(groups), tuple(notes), kept
    return Stack(values, label, x_range, white, units, *facts)


def write(path: Path, stack: Stack, values: np.ndarray, spread: bool) -> Path:
    """One file, or a folder of them under their names: derived images in a series of their own."""
    from pydicom.uid import generate_uid

    series, files, start = generate_uid(), {}, 0
    top = float(values.max()) if spread else None
    for dataset, name, n in stack.kept:
        files[name] = _encoded(dataset, values[start : start + n], stack, series, top)
        start += n
    if len(files) == 1:
        return atomic_write(path, next(iter(files.values())))
    folder = path.with_suffix("")
    write_together(folder, {**files})
    return folder


def _encoded(
    template: Any, values: np.ndarray, stack: Stack, series: str, top: float | None
) -> bytes:
    """The bytes of a file with these frames; ``top`` is the largest of values without a sign that
    get a scale of their own."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    new = copy.deepcopy(template)
    new.SOPInstanceUID = new.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    new.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    new.SeriesInstanceUID = series
    new.ImageType = ["DERIVED", "SECONDARY", *list(new.get("ImageType", []))[2:]]
    new.SeriesDescription = f"{new.get('SeriesDescription', '')} innverse".strip()[:64]
    new.DerivationDescription = "reconstructed by innverse"
    _resize(new, stack.size, values.shape[-2:])
    for key in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue"):
        if key in new:
            delattr(new, key)
    if top is not None:
        new.BitsAllocated = new.BitsStored = 16
        new.PixelRepresentation = 0
        new.RescaleSlope, new.RescaleIntercept = f"{max(top, 1e-6) / 65535:.10g}", "0"
        for key in ("WindowCenter", "WindowWidth"):
            if key in new:
                delattr(new, key)
        for group in _groups(new):
            if _SCALE in group:
                delattr(group, _SCALE)
        if new.PhotometricInterpretation == _NEGATIVE:
            new.PhotometricInterpretation = "MONOCHROME2"
    new.HighBit = new.BitsStored - 1
    scale = _rescale(new, len(values))
    slope, intercept = (1.0, 0.0) if scale is None else scale
    signed, bits = bool(new.PixelRepresentation), int(new.BitsStored)
    low = -(2 ** (bits - 1)) if signed else 0
    stored = np.rint((values.astype(np.float64) - intercept) / slope).clip(low, low + 2**bits - 1)
    stored = _upright(stored, new, scale)
    kind = np.dtype(f"<{'i' if signed else 'u'}{new.BitsAllocated // 8}")
    pixels = as_type(np.moveaxis(stored, 1, -1), kind).tobytes()
    if int(new.get("SamplesPerPixel", 1)) == 3:
        new.PlanarConfiguration = 0
        new.PhotometricInterpretation = "RGB"
    new.PixelData = pixels + b"\0" * (len(pixels) % 2)
    new["PixelData"].VR = "OW" if new.BitsAllocated > 8 else "OB"
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in new.iterall():  # what was read in another order of bytes is numbers then
            pass
        order = {"implicit_vr": False, "little_endian": True}
        pydicom.dcmwrite(buffer, new, enforce_file_format=True, **order)
    return buffer.getvalue()


def _resize(dataset: Any, before: tuple[int, int], after: tuple[int, ...]) -> None:
    """Other pixels for the same field of view."""
    dataset.Rows, dataset.Columns = after
    if after == before or not dataset.get("PixelSpacing"):
        return
    ratio = np.array(before) / np.array(after)
    spacing = np.array(dataset.PixelSpacing, float)
    dataset.PixelSpacing = [f"{v:.8g}" for v in spacing * ratio]
    if dataset.get("ImagePositionPatient") and dataset.get("ImageOrientationPatient"):
        right, down = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
        shift = (ratio - 1) / 2 * spacing  # of the centre of the first pixel
        place = np.array(dataset.ImagePositionPatient, float) + shift[0] * down + shift[1] * right
        dataset.ImagePositionPatient = [f"{v:.8g}" for v in place]


def _dataset(path: Path, pixels: bool = True) -> Any:
    try:
        import pydicom
    except ImportError:
        raise InnverseError(f'{path} needs pydicom: pip install "innverse[io]"') from None
    try:
        with open_regular(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(file, stop_before_pixels=not pixels)
    except InputError:
        raise
    except Exception as error:  # of damaged files pydicom raises almost anything
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path} is damaged or no DICOM ({reason})") from None


def _frames(dataset: Any, path: Path) -> np.ndarray:
    """(N, C, H, W) of a file in its units: as stored where it has no scale, else float32."""
    if "PixelData" not in dataset:
        raise InputError(f"{path} has no pixels ({dataset.get('Modality', 'DICOM')}): leave it out")
    colour = str(dataset.get("PhotometricInterpretation", ""))
    if colour == "PALETTE COLOR":
        raise InputError(f"{path} has a palette of colours: save it as gray or RGB")
    if "ModalityLUTSequence" in dataset:
        raise InputError(
            f"{path} has a table of values (ModalityLUTSequence): export it with a slope"
        )
    n = int(dataset.get("NumberOfFrames", 1) or 1)
    rescale = _rescale(dataset, n)
    if str(dataset.get("Modality", "")) == "CT" and rescale is None:
        raise InputError(
            f"{path} is a CT slice without RescaleSlope and RescaleIntercept, so that its values are "
            "no Hounsfield units: export it with them"
        )
    try:
        samples = int(dataset.get("SamplesPerPixel", 1))
        size = (
            n * samples * int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
        )
        check_expansion(str(path), size, file_size(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = dataset.pixel_array
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: its pixels cannot be read ({reason})") from None
    stored = stored if n > 1 else stored[None]
    stored = np.moveaxis(stored, -1, 1) if samples == 3 else stored[:, None]
    if colour.startswith("YBR") and samples == 3:
        raise InputError(f"{path} has colours as {colour}: save it as gray or RGB")
    stored = _upright(stored, dataset, rescale)
    if rescale is None or _is_plain(rescale):
        return stored
    slope, intercept = rescale
    if len(slope) not in (1, n) or not (slope * np.isfinite(rescale).all()).all():
        raise InputError(
            f"{path}: RescaleSlope {slope.flat[0]:g} and RescaleIntercept {intercept.flat[0]:g}, given "
            f"{len(slope)} times for {n} frames, give no units"
        )
    return (stored * slope + intercept).astype(np.float32)


def _groups(dataset: Any) -> list[Any]:
    """What a file of many frames says of each, or else of all."""
    names = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
    return [group for name in names for group in dataset.get(name, None) or ()]


def _rescale(dataset: Any, frames: int) -> np.ndarray | None:
    """Slope and intercept (2, 1 or frames, 1, 1, 1); None where the file has none, or a CT one only."""
    found = [scale for group in _groups(dataset) for scale in group.get(_SCALE, None) or ()]
    holders = found if len(found) == frames else found or [dataset]
    pairs = [(h.get("RescaleSlope", None), h.get("RescaleIntercept", None)) for h in holders]
    needed = any if str(dataset.get("Modality", "")) == "CT" else all
    if any(needed(v is None for v in pair) for pair in pairs):
        return None
    full = [(1.0 if a is None else float(a), 0.0 if b is None else float(b)) for a, b in pairs]
    return np.array(full).T[..., None, None, None]


def _is_plain(rescale: np.ndarray) -> bool:
    return bool((rescale[0] == 1).all() and (rescale[1] == 0).all())


def _upright(stored: np.ndarray, dataset: Any, rescale: np.ndarray | None) -> np.ndarray:
    """Pictures whose lowest value is white, as those whose highest is, and back; measured quantities
    as they are."""
    picture = rescale is None or _is_plain(rescale)
    if dataset.get("PhotometricInterpretation", "") != _NEGATIVE or not picture:
        return stored
    highest = -1 if dataset.PixelRepresentation else 2 ** int(dataset.BitsStored) - 1
    return (highest - stored.astype(np.float64)).astype(stored.dtype)


def _place(dataset: Any, path: Path) -> tuple:
    """Along the normal of the slices, else by number, else by name."""
    try:
        at = np.array(dataset.ImagePositionPatient, float)
        across = np.array(dataset.ImageOrientationPatient, float)
        return 0, float(at @ np.cross(across[:3], across[3:])), path.name
    except Exception:  # missing, or no six numbers
        number = dataset.get("InstanceNumber", None)
        return 1, float(number) if number is not None else 0.0, path.name


def _without_pixels(dataset: Any) -> Any:
    dataset = copy.copy(dataset)
    del dataset.PixelData
    return dataset


def files_in(folder: Path) -> list[Path]:
    """The DICOM files of a folder, by their names."""
    return [p for p in sorted(folder.iterdir()) if not p.name.startswith(".") and is_dicom(p)]
