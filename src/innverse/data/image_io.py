"""Reading and writing single images: any mode and size a user has, one line when it cannot be."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor

from ..errors import InputError, ShapeError, UsageError, is_out_of_memory
from ..reading import read_bytes
from .atomic import atomic_write
from .expansion import check_expansion

# Only these decoders are tried: Pillow knows others that call external programs (EPS) or are
# obscure.
_FORMATS = ("PNG", "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "GIF", "PPM")
_READABLE = "PNG, JPEG, WebP, TIFF, BMP or GIF"

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jp2", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif",
    ".ppm", ".pgm", ".pbm",
)  # fmt: skip


@dataclass(frozen=True)
class Image:
    """An image as it was read.

    Attributes:
        tensor: float32 (C, H, W) in [0, 1], C = 1 (gray) or 3 (RGB).
        path: where it came from.
        mode: the Pillow mode of the file ("L", "RGBA", "I;16", "P", ...).
        bits: precision per channel that was kept: 1, 8, 16, or 32 for float files.
        notes: what was changed on the way, in words (alpha flattened, rotated, ...).

    Example:
        >>> image = Image(torch.zeros(1, 4, 4), "black.png", "L", 8)
        >>> image.tensor.shape
        torch.Size([1, 4, 4])
    """

    tensor: Tensor
    path: str
    mode: str
    bits: int
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.tensor.shape[-2], self.tensor.shape[-1]

    @property
    def channels(self) -> int:
        return self.tensor.shape[0]


@dataclass(frozen=True)
class Decoded:
    """Pixels (C, H, W), uint8, uint16 or float32, with ``maximum`` standing for 1.0."""

    pixels: np.ndarray
    maximum: int
    mode: str
    bits: int
    notes: tuple[str, ...]

    def as_float(self) -> np.ndarray:
        x = self.pixels.astype(np.float32)
        x /= np.float32(self.maximum)  # in place: a large picture is in memory once
        return x

    def as_uint8(self) -> np.ndarray:
        if self.pixels.dtype == np.uint8:
            return self.pixels
        return np.rint(self.as_float() * 255).astype(np.uint8)


def read_image(
    path: str | os.PathLike, mode: str | None = None, x_range: tuple[float, float] | None = None
) -> Image:
    """Read an image file of any size and mode.

    16-bit gray keeps its precision; transparency is flattened over white; palettes, CMYK and 1-bit
    images are converted; EXIF rotation is applied; of an animation the first frame is taken.
    Whatever changed the picture is listed in ``notes``.

    Args:
        path: the file.
        mode: "L" for gray, "RGB" for colour, None to keep what the file has.
        x_range: the values of black and white of a file of floats, whose values are returned as
            they are; other files have none to give.

    Raises:
        InputError: the file is missing, empty, cut off, not an image, or too large.
        UsageError: an unknown ``mode``.

    Example:
        >>> import tempfile
        >>> file = write_image(tempfile.mkdtemp() + "/x.png", torch.zeros(3, 4, 4))
        >>> read_image(file).tensor.shape
        torch.Size([3, 4, 4])
    """
    return decode_image(read_file(path), os.fspath(path), mode, x_range)


def decode_image(
    data: bytes,
    label: str = "image",
    mode: str | None = None,
    x_range: tuple[float, float] | None = None,
) -> Image:
    """Like `read_image` for the bytes of a file; ``label`` names it in errors.

    Example:
        >>> import tempfile
        >>> file = write_image(tempfile.mkdtemp() + "/x.png", torch.rand(3, 8, 8))
        >>> decode_image(file.read_bytes()).tensor.shape
        torch.Size([3, 8, 8])
    """
    with quiet():
        decoded = decode(data, label, mode, x_range is not None)
    if x_range is not None and decoded.bits != 32:
        raise UsageError(
            f"{label}: a range is for files of floats and .npy; this one has values from black to "
            "white of its own"
        )
    return Image(
        torch.from_numpy(decoded.as_float()), label, decoded.mode, decoded.bits, decoded.notes
    )


def write_image(path: str | os.PathLike, tensor: Tensor | PIL.Image.Image, bits: int = 8) -> Path:
    """Write an image atomically; the format follows the suffix (PNG without one), missing folders
    are made.

    Args:
        path: .png, .tif, .bmp, .webp (all lossless) or .jpg (quality 95).
        tensor: (C, H, W), (1, C, H, W) or (H, W), C = 1 or 3; values are clipped to [0, 1]. Or a
            Pillow image, which is written as it is.
        bits: 8, or 16 for gray PNG and TIFF.

    Raises:
        InnverseError: the place cannot be written to.
        InputError: NaN in the image. ShapeError: not an image. UsageError: suffix or bits.

    Example:
        >>> import tempfile
        >>> write_image(tempfile.mkdtemp() + "/x.png", torch.rand(3, 8, 8)).name
        'x.png'
    """
    suffix = Path(path).suffix.lower()
    formats = {"": "PNG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP",
               ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}  # fmt: skip
    if suffix not in formats:
        raise UsageError(f"{os.fspath(path)}: cannot write {suffix} images; name the file .png")
    if bits == 16 and suffix not in ("", ".png", ".tif", ".tiff"):
        raise UsageError(f"{os.fspath(path)}: 16 bits need a .png or .tif file")
    image = to_pil(tensor, bits)
    buffer = io.BytesIO()
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
    image.save(buffer, formats[suffix], **options.get(formats[suffix], {}))
    return atomic_write(path, buffer.getvalue())


def to_pil(tensor: Tensor | PIL.Image.Image, bits: int = 8) -> PIL.Image.Image:
    """A Pillow image from (C, H, W), (1, C, H, W) or (H, W) in [0, 1] (clipped), C = 1 or 3.

    One that is a Pillow image already is returned as it is.

    Raises:
        InputError: NaN in the image. ShapeError: not one image. UsageError: bits not 8, or 16 for
        gray.

    Example:
        >>> to_pil(torch.rand(3, 4, 6)).size
        (6, 4)
    """
    if isinstance(tensor, PIL.Image.Image):
        return tensor
    x = tensor.detach().to("cpu", torch.float64)
    if x.ndim == 4 and x.shape[0] == 1:
        x = x[0]
    if x.ndim == 2:
        x = x[None]
    if x.ndim != 3 or x.shape[0] not in (1, 3) or x.numel() == 0:
        raise ShapeError(
            f"a tensor of shape {tuple(tensor.shape)} is not an image (C, H, W), C = 1 or 3"
        )
    if x.isnan().any():
        raise InputError(f"the image has NaN in {int(x.isnan().sum())} of {x.numel()} values")
    if bits not in (8, 16) or (bits == 16 and x.shape[0] != 1):
        raise UsageError(
            f"cannot write {bits} bits with {x.shape[0]} channels; 16 bits are for gray"
        )
    levels = 2**bits - 1
    array = (x.clamp(0, 1) * levels).round().numpy().astype(np.uint8 if bits == 8 else np.uint16)
    return PIL.Image.fromarray(array[0] if x.shape[0] == 1 else np.moveaxis(array, 0, -1).copy())


def is_image_name(name: str) -> bool:
    """Whether a file name is that of an image (hidden files are not)."""
    pure = PurePosixPath(name)
    return pure.suffix.lower() in IMAGE_SUFFIXES and not pure.name.startswith(".")


def read_file(path: str | os.PathLike) -> bytes:
    """The bytes of a file, or an InputError that says why there are none."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        raise InputError(f"no such file: {os.fspath(path)}; check the path") from None
    except (OSError, ValueError):
        pass  # the reading of it says why
    return read_bytes(path)


# Python's warning filters are one global list: two threads leaving `catch_warnings` in the wrong
# order would leave it changed, hence the lock.
_QUIET = threading.RLock()


@contextmanager
def quiet() -> Generator[None]:
    """Silence Pillow's warnings (about size and metadata): what matters becomes an error or a
    note."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode(
    data: bytes,
    label: str,
    mode: str | None = None,
    any_scale: bool = False,
    most: int | None = None,
) -> Decoded:
    """Decode the bytes of an image file; the engine of `read_image` and of the image sources.

    One with more than ``most`` pixels is refused.

    Raises:
        InputError: whatever is wrong with the bytes, in one line.
    """
    if mode not in (None, "L", "RGB"):
        raise UsageError(f'mode {mode!r} is unknown; use "L", "RGB" or None')
    if not data:
        raise InputError(f"{label} is empty (0 bytes); copy or export it again")
    PIL.Image.init()
    formats = [name for name in _FORMATS if name in PIL.Image.OPEN]
    try:
        with PIL.Image.open(io.BytesIO(data), formats=formats) as file:
            width, height = file.size
            check_expansion(label, 4 * width * height, len(data))
            if most is not None and width * height > most:
                raise InputError(
                    f"{label} has {width * height / 1e6:.0f} million pixels, more than the "
                    f"{most / 1e6:.0f} million that are taken; shrink it"
                )
            return _convert(file, label, mode, any_scale)
    except (InputError, UsageError):
        raise
    except PIL.UnidentifiedImageError:
        raise InputError(
            f"{label} is not an image{_looks_like(data)}; give a {_READABLE}"
        ) from None
    except PIL.Image.DecompressionBombError:
        limit = 2 * (PIL.Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise InputError(
            f"{label} has more than {limit} million pixels; crop or shrink it"
        ) from None
    except Exception as error:  # on damaged files Pillow raises almost anything
        if is_out_of_memory(error):
            raise InputError(f"{label} does not fit in memory; crop or shrink it") from error
        raise InputError(
            f"{label} is damaged or cut off ({_reason(error)}); copy or export it again"
        ) from error


def _convert(file: PIL.Image.Image, label: str, mode: str | None, any_scale: bool) -> Decoded:
    original, notes = file.mode, []
    deep = ";16" in repr(getattr(file, "tile", ""))
    if file.format != "MPO" and _frames(file) > 1:
        notes.append(f"first of {_frames(file)} frames")
        file.seek(0)
    file.load()
    image = upright(file)
    if image is not file:
        notes.append("rotated as its EXIF data says")

    if original == "LAB":
        raise InputError(f"{label} has LAB colours; save it as RGB")
    if original.startswith("I") or original == "F":
        pixels, maximum, bits = _deep_gray(image, label, any_scale)
    else:
        if deep:
            notes.append("16-bit colour or alpha was read with 8 bits")
        if original in ("CMYK", "YCbCr", "HSV"):
            notes.append(f"converted from {original} without its colour profile")
        pixels = _eight_bit(image, mode, notes)
        maximum, bits = 255, 1 if original == "1" else 8

    pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    if mode == "RGB" and pixels.shape[0] == 1:
        pixels = np.repeat(pixels, 3, axis=0)
    return Decoded(np.ascontiguousarray(pixels), maximum, original, bits, tuple(notes))


def _deep_gray(image: PIL.Image.Image, label: str, any_scale: bool) -> tuple[np.ndarray, int, int]:
    """(pixels, what stands for 1.0, bits) of a file with more than 8 bits of gray."""
    pixels = np.asarray(image)
    if not np.isfinite(pixels).all():
        raise InputError(f"{label} has pixels that are NaN or infinite; replace them by numbers")
    low, high = pixels.min(), pixels.max()
    if image.mode == "F":
        if not any_scale and (low < 0 or high > 1):
            raise InputError(
                f"{label} has float values from {low:g} to {high:g}; rescale them to [0, 1], "
                "or give the values of black and white (solve --range LOW:HIGH)"
            )
        return pixels.astype(np.float32), 1, 32
    if low < 0 or high > 65535:
        raise InputError(
            f"{label} has integer values from {low} to {high}; rescale them to 16 bits (0..65535)"
        )
    return pixels.astype(np.uint16), 65535, 16


def _eight_bit(image: PIL.Image.Image, mode: str | None, notes: list[str]) -> np.ndarray:
    """uint8 pixels (H, W) or (H, W, 3)."""
    gray = image.mode in ("1", "L", "LA", "La")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        if int(np.asarray(rgba.getchannel("A")).min()) < 255:
            white = PIL.Image.new("RGBA", rgba.size, "white")
            rgba = PIL.Image.alpha_composite(white, rgba)
            notes.append("alpha channel dropped: transparent pixels are shown over white")
        image = rgba
    if gray:
        return np.asarray(image.convert("L"))
    pixels = image.convert("RGB")
    if mode == "L":
        return np.asarray(pixels.convert("L"))
    pixels = np.asarray(pixels)
    if mode is None and "P" in image.mode and (pixels == pixels[..., :1]).all():
        return pixels[..., 0]  # a palette of grays is a gray image
    return pixels


def _frames(file: PIL.Image.Image) -> int:
    try:
        return getattr(file, "n_frames", 1)
    except Exception:  # a later frame is damaged: the first may be whole
        return 1


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        if image.getexif().get(0x0112, 1) in range(2, 9):
            return PIL.ImageOps.exif_transpose(image)
    except Exception:  # unreadable metadata is no reason to refuse the pixels
        pass
    return image


def _looks_like(data: bytes) -> str:
    text = data[:256].decode("utf-8", "replace").rstrip("\ufffd")  # a character cut at byte 256
    is_text = text and "\ufffd" not in text and all(c.isprintable() or c.isspace() for c in text)
    return " (it holds text)" if is_text else ""


def _reason(error: BaseException) -> str:
    """A short, one-line reason."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:120]
