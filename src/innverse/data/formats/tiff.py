"""TIFF stacks of 8 and 16 bits and floats (tifffile): pages, ImageJ and OME, with their tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageSequence

from ...errors import InnverseError, InputError, ShapeError
from ...reading import open_regular
from ..atomic import atomic_path
from ..expansion import check_expansion, file_size
from ..stack import Range, Stack, as_type, found_range, from_slices, to_slices, unused_range

# Tags that say how pixels are stored, those written by themselves, and places in the old file
_STRUCTURE = {
    *range(254, 260), 262, 266, 269, 270, *range(273, 285), 290, 291, 292, 293, 296, 305, 306,
    *range(316, 348), 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532, 32995, 32996, 32997,
    34665, 34853, 40965, 50838, 50839,
}  # fmt: skip


def is_stack(path: Path) -> bool:
    """Whether there are several pages, or more than 8 bits; False without tifffile, as of files that
    cannot be read: Pillow then says why."""
    try:
        import tifffile

        open_regular(path).close()
        with tifffile.TiffFile(path) as file:
            return len(file.pages) > 1 or file.pages[0].dtype not in (np.uint8, np.bool_)
    except Exception:
        return False


def array(path: Path, name: str | None) -> np.ndarray:
    return _load(path, name)[0]


def read(path: Path, name: str | None) -> Stack:
    values, kept = _load(path, name)
    x_range, white = found_range(values, str(path))
    colour = kept[1]["photometric"] == "rgb"
    if colour and not white and "planarconfig" in kept[1]:  # tifffile calls any three slices that
        values, colour = np.moveaxis(values, -1, -3), False
    slices = to_slices(values if colour else values.reshape(-1, *values.shape[-2:]), str(path))
    slices = _turned(slices, kept[1], x_range)
    notes = unused_range(slices, x_range)
    return Stack(slices, str(path), x_range, white, notes=notes, kept=kept)


def write(path: Path, stack: Stack, values: np.ndarray, spread: bool) -> Path:
    import tifffile

    shape, options, tags = stack.kept
    dtype = np.dtype(np.float32) if spread else stack.values.dtype
    (h, w), (height, width) = stack.size, values.shape[-2:]
    if (resolution := options.get("resolution")) is not None:  # pixels per unit of length
        options |= {"resolution": (resolution[0] * width / w, resolution[1] * height / h)}
    if options.get("ome"):
        ratios = {"PhysicalSizeX": w / width, "PhysicalSizeY": h / height}
        known = options["metadata"].items()
        options |= {"metadata": {k: v * ratios[k] if k in ratios else v for k, v in known}}
    values = values if spread else _turned(values, options, stack.x_range)
    planes = "planarconfig" in options
    if planes and values.shape[1] == 1:
        array = values.reshape(*shape[:-3], 3, height, width)
    else:
        array = from_slices(values, shape)
        array = np.moveaxis(array, -1, -3) if planes else array
    array = as_type(array, dtype)
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, array, extratags=tags, **options)
    return path


def _turned(values: np.ndarray, options: dict[str, Any], x_range: Range) -> np.ndarray:
    """Values whose lowest is white, as those whose highest is, and back."""
    turned = options["photometric"] == "miniswhite"
    return (sum(x_range) - values).astype(values.dtype) if turned else values


def _load(path: Path, name: str | None) -> tuple[np.ndarray, Any]:
    """The pixels of all pages, and (shape, options, tags) to write them again."""
    try:
        import tifffile
    except ImportError:
        raise InnverseError(f'{path} needs tifffile: pip install "innverse[io]"') from None
    if name is not None:
        raise InputError(f"{path} is one stack: leave out {name!r}")
    open_regular(path).close()  # a pipe would be waited for
    try:
        with tifffile.TiffFile(path) as file:
            sizes = {tuple(page.shape) for page in file.pages if not getattr(page, "is_reduced", 0)}
            if len(sizes) > 1:
                words = " and ".join(sorted("x".join(map(str, s)) for s in sizes)[:3])
                raise ShapeError(
                    f"{path} is a stack of mixed sizes, {words} (HxW): save those of one size "
                    "in a file of their own"
                )
            check_expansion(str(path), sum(s.nbytes for s in file.series), file_size(path))
            series = _series(file, path)
            # pages that were written one by one are a series each
            values = series[0] if len(series) == 1 else np.concatenate([_paged(s) for s in series])
            kept = values.shape, *_tags(file)
    except InnverseError:
        raise
    except Exception as error:  # of damaged files tifffile raises almost anything
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path} is damaged or no TIFF ({reason})") from None
    return values.astype(values.dtype.newbyteorder("="), copy=False), kept


def _series(file: Any, path: Path) -> list[np.ndarray]:
    """The pixels of each series; what tifffile cannot unpack by itself, such as LZW, by Pillow."""
    try:
        return [_in_colour(s.asarray(), s.axes, path) for s in file.series]
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    page, axes = file.pages[0], file.series[0].axes
    try:
        with PIL.Image.open(path) as image:
            frames = [np.array(frame) for frame in PIL.ImageSequence.Iterator(image)]
        values = np.stack(frames).astype(page.dtype, casting="safe")
        plain = "S" not in axes and not _low_is_white(page) and len(file.series) == 1
        if plain and values.size == file.series[0].size:
            return [values.reshape(file.series[0].shape)]
    except Exception:  # Pillow raises almost anything; what is missing is said below
        pass
    raise InnverseError(f"{path} is packed as {page.compression.name}: pip install imagecodecs")


def _in_colour(values: np.ndarray, axes: str, path: Path) -> np.ndarray:
    """Samples of a pixel last."""
    if "S" not in axes:
        return values
    values = np.moveaxis(values, axes.index("S"), -1)
    if values.shape[-1] != 3:
        raise ShapeError(f"{path} has {values.shape[-1]} samples a pixel: save gray or RGB")
    return values


def _paged(values: np.ndarray) -> np.ndarray:
    """(N, H, W) or (N, H, W, 3)."""
    axes = 3 if values.ndim > 2 and values.shape[-1] == 3 else 2
    return values.reshape(-1, *values.shape[-axes:])


def _tags(file: Any) -> tuple[dict[str, Any], list[tuple]]:
    """Options of `tifffile.imwrite` and tags beside them that say what the file said."""
    page = file.pages[0]
    gray = "miniswhite" if _low_is_white(page) else "minisblack"
    options: dict[str, Any] = {
        "software": "innverse",
        "photometric": "rgb" if "S" in file.series[0].axes else gray,
    }
    if "XResolution" in page.tags and "YResolution" in page.tags:
        x, y = (page.tags[name].value for name in ("XResolution", "YResolution"))
        if x[1] and y[1]:
            options["resolution"] = (x[0] / x[1], y[0] / y[1])
            options["resolutionunit"] = (
                page.tags.get("ResolutionUnit", None) and page.tags["ResolutionUnit"].value
            )
    if "DateTime" in page.tags:
        options["datetime"] = page.tags["DateTime"].value
    if file.is_imagej:
        metadata = {k: v for k, v in (file.imagej_metadata or {}).items() if _simple(v)}
        options |= {"imagej": True, "metadata": metadata | {"axes": file.series[0].axes}}
    elif file.is_ome and len(file.series) == 1:
        options |= {"ome": True, "metadata": _of_microscope(file)}
    elif int(page.planarconfig) == 2 and not file.is_ome and options["photometric"] == "rgb":
        options |= {"planarconfig": "separate"}
    elif page.description and not file.is_ome and not file.is_shaped:
        options |= {"description": page.description, "metadata": None}
    tags = [
        (tag.code, int(tag.dtype), tag.count, tag.value, True)
        for tag in page.tags
        if tag.code not in _STRUCTURE and not (file.is_imagej and tag.code >= 50000)
    ]
    return options, tags


def _low_is_white(page: Any) -> bool:
    return str(getattr(page.photometric, "name", "")).lower() == "miniswhite"


def _of_microscope(file: Any) -> dict[str, Any]:
    """Axes of an OME file, and the sizes of its pixels with their units."""
    import tifffile

    found: Any = tifffile.xml2dict(file.ome_metadata).get("OME", {}).get("Image", {})
    image = found[0] if isinstance(found, list) else found
    sizes = {k: v for k, v in image.get("Pixels", {}).items() if k.startswith("PhysicalSize")}
    axes = file.series[0].axes
    axes = axes.replace("S", "") + "S" if "S" in axes else axes  # as `_in_colour` has them
    return {"axes": axes} | ({"Name": image["Name"]} if "Name" in image else {}) | sizes


def _simple(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)
