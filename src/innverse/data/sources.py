"""One view of every place images come from: folders, archives, arrays, single files, packages."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InnverseError, InputError, ShapeError, UsageError
from ..reading import open_regular, read_error
from . import archives, arrays
from .coded import code
from .files import format_of, is_stack, read_stack, split_name, stack_files
from .image_io import decode, is_image_name, quiet, read_file
from .npy import load_numpy
from .stack import Range, check_units

Entry = tuple[str, Callable[[], bytes]]  # a name, and what gives the bytes
CACHE_BYTES = 4 << 30

# Photographs inside the scikit-image wheel: no download is ever needed for them.
_PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "moon.png", "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip

BUILTIN = ("digits", "skimage")


class ImageSource:
    """A sequence of images with names, whole numbers of 8 bits, or of 16 where `open_images` was to
    keep them.

    ``source[i]`` is a uint8 or uint16 tensor (C, H, W); all images have the same number of channels,
    sizes may differ. Pixels in memory are shared with the tensors: do not write into them.

    Attributes:
        names: one unique name per image, stable between runs (it decides the split).
        failures: (name, reason) of every image that could not be read and is left out.
        base: (M, C, H, W) uint8 array that holds all images when they are in memory and of one
            size, else None; image i is ``base[index[i]]``.
        groups: one name per image, equal where they show the same object; None: each its own.
        x_range, units: the (low, high) values that 0 and the largest number stand for, where they
            are others than black and white.
        notes: what was done on the way, in words.

    Example:
        >>> import numpy as np
        >>> source = ImageSource(["a", "b"], np.zeros((2, 1, 32, 32), np.uint8))
        >>> len(source), source[0].shape, source.channels
        (2, torch.Size([1, 32, 32]), 1)
    """

    def __init__(
        self,
        names: Sequence[str],
        items: arrays.Items | np.ndarray,
        failures: list[tuple[str, str]] | None = None,
        index: np.ndarray | None = None,
        groups: Sequence[str] | None = None,
        x_range: Range | None = None,
        units: str = "",
        notes: Sequence[str] = (),
    ):
        self._names = names
        self._items = items
        self._groups = groups
        self.x_range, self.units, self.notes = x_range, units, notes
        self.failures = [] if failures is None else failures
        self.index = np.arange(len(items)) if index is None else index
        self.base = items if isinstance(items, np.ndarray) else None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Tensor:
        array = self.array(i)
        return torch.from_numpy(array if array.flags.writeable else array.copy())

    def __repr__(self) -> str:
        size = "x".join(map(str, self.size)) if self.size else "several sizes"
        return f"ImageSource({len(self)} images, {self.channels} channels, {size})"

    def array(self, i: int) -> np.ndarray:
        """Image i as an array (C, H, W)."""
        return np.asarray(self._items[self.index[i]])

    def unit(self, i: int) -> Tensor:
        """Image i as float32 (C, H, W) on [0, 1]."""
        image = self.array(i)
        return self[i].float() / np.iinfo(image.dtype).max

    def name(self, i: int) -> str:
        return self._names[self.index[i]]

    @property
    def names(self) -> list[str]:
        return [self._names[i] for i in self.index]

    @property
    def groups(self) -> list[str] | None:
        return None if self._groups is None else [self._groups[i] for i in self.index]

    def known_sizes(self) -> dict[int, tuple[int, int]]:
        """{i: (height, width)} of the images whose size is known without reading them from disk."""
        if isinstance(self._items, list):
            return {i: self._items[k].shape[1:] for i, k in enumerate(self.index)}
        if not isinstance(self._items, _Files):
            return {0: self.array(0).shape[1:]}  # rows of one array: the first stands for all
        cached = self._items.cached
        return {i: cached[k].shape[1:] for i, k in enumerate(self.index) if k < len(cached)}

    @property
    def channels(self) -> int:
        return self.array(0).shape[0]

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) when all images in memory have one size, else None."""
        return None if self.base is None else tuple(self.base.shape[-2:])

    def subset(self, indices: Iterable[int]) -> ImageSource:
        """A source of the images at ``indices``, in that order; pixels are shared, not copied."""
        index = self.index[np.fromiter(indices, dtype=np.int64)]
        return ImageSource(
            self._names, self._items, self.failures, index,
            self._groups, self.x_range, self.units, self.notes,
        )  # fmt: skip

    def stack(self) -> Tensor:
        """All images as one tensor (N, C, H, W).

        Raises:
            ShapeError: the images differ in size.
        """
        images = [self.array(i) for i in range(len(self))]
        if len({image.shape for image in images}) > 1:
            raise ShapeError("the images differ in size and cannot be stacked; crop them first")
        return torch.from_numpy(np.stack(images))


def open_images(
    path: str | os.PathLike,
    *,
    subset: str | None = None,
    channels: int | None = None,
    layout: str | None = None,
    cache_bytes: int = CACHE_BYTES,
    deep: bool = False,
    x_range: Range | None = None,
    like: Any = None,
) -> ImageSource:
    """Open images wherever they are.

    ======================  ======================================================================
    ``path``                what is read
    ======================  ======================================================================
    a folder                all image files in it and below, sorted by name
    .tar, .tar.gz, ...      the image files in the archive (never extracted to disk)
    .npy, .npz              (N, H, W), (N, H, W, C) or (N, C, H, W): uint8, bool, or float in [0, 1]
    IDX, raw or .gz         MNIST's own format
    a folder of IDX files   MNIST, Fashion-MNIST, ...: the training images, or the part ``subset``
    an image file           that one image
    DICOM, NIfTI, HDF5,     their slices, on the range of all their values; also stacks and floats of
    .mat, TIFF              TIFF, and folders of these; see `read_stack`
    ``"digits"``            scikit-learn's 1797 handwritten digits, 8x8
    ``"skimage"``           the photographs inside scikit-image
    ======================  ======================================================================

    Unreadable images in a folder or an archive are skipped and listed in ``failures``. Images are
    kept in memory up to ``cache_bytes``; the rest is read at each use. Built-in names win over a
    folder of that name in the current directory: write ``./digits`` for the folder.

    Args:
        subset: a folder inside the folder or archive, the name of an array in a .npz, of MNIST
            ``"train"`` or ``"t10k"``, or for ``"skimage"`` names separated by commas
            ("camera,coffee").
        channels: 1 converts to gray, 3 to colour; None gives 3 if any image is in colour, else 1.
        layout: "NHWC" or "NCHW" for an array where both would fit.
        deep: keep 16 bits of slices with a range, and take arrays of any numbers as such; else 8.
        x_range: the range of such slices, beyond which they are clipped; by default the smallest and
            the largest value.
        like: a model that is to see the images, whose channels they get, and slices its range.

    Raises:
        InputError: nothing there, nothing readable, a wrong type of data, or slices in other units
            than those of a model; in one line.
        InnverseError: the package that holds a built-in is not installed.
        UsageError: a wrong option.

    Example:
        >>> import tempfile
        >>> _ = write_image((folder := tempfile.mkdtemp()) + "/x.png", torch.rand(3, 8, 8))
        >>> source = open_images(folder)
        >>> len(source), source[0].shape, source[0].dtype
        (1, torch.Size([3, 8, 8]), torch.uint8)
    """
    channels = channels if like is None else like.shape[0]
    if channels not in (None, 1, 3):
        raise UsageError(f"channels={channels} is not supported; use 1 (gray) or 3 (colour)")
    name = os.fspath(path)
    if name == "digits":
        _no_subset(name, subset)
        return _from_array(arrays.digits(), name, channels, "NCHW", cache_bytes)
    if name == "skimage":
        return _from_files(_photographs(subset), channels, cache_bytes, name)
    if not name or "\0" in name or not os.path.exists(split_name(path)[0]):
        raise InputError(
            f"no such file or folder: {name!r}; give images or one of the built-in sets "
            + ", ".join(BUILTIN)
        )
    known = x_range or getattr(like, "x_range", None)
    stacks = _stacks(Path(path), subset, deep or known is not None)
    if stacks is not None:
        found = code(stacks, name, channels, known, 65535 if deep else 255, cache_bytes)
        check_units(name, found.units, like)
        same = len({image.shape for image in found.images}) == 1
        return ImageSource(
            found.names, np.stack(found.images) if same else found.images, found.failures,
            groups=found.groups, x_range=found.x_range, notes=found.notes,
            units=found.units or getattr(like, "units", ""),
        )  # fmt: skip
    if x_range is not None:
        raise UsageError(f"{name} has values from black to white of its own: leave out the range")
    path = Path(path)
    if not path.is_dir():
        open_regular(path).close()  # a pipe would be waited for, a device never ends
    if path.is_dir() and (parts := arrays.idx_parts(path)):
        file = _idx_part(path, parts, subset)
        return _from_array(arrays.load_idx(file), str(file), channels, "NCHW", cache_bytes)
    if path.is_dir():
        return _from_files(_folder(path, subset), channels, cache_bytes, name)
    if path.suffix.lower() in (".npy", ".npz"):
        array = load_numpy(path, subset)
        return _from_array(array, name, channels, layout, cache_bytes)
    if archives.is_tar(path):
        members, failures = archives.tar_images(path, subset)
        return _from_files(members, channels, cache_bytes, name, failures)
    _no_subset(name, subset)
    if arrays.is_idx(path):
        return _from_array(arrays.load_idx(path), name, channels, "NCHW", cache_bytes)
    decode(read_file(path), name)  # the error of a single file is the error of the source
    return _from_files([(path.name, partial(read_file, path))], channels, cache_bytes, name)


def _stacks(path: Path, subset: str | None, deep: bool) -> list[tuple[str, list[Path]]] | None:
    """{name: files} of what `code` reads; None where all are pictures."""
    if path.is_dir():
        return [*stack_files(path / subset if subset else path)] or None
    file, array = split_name(path)
    kind = format_of(file)
    if not is_stack(file) or (kind == "npy" and not (array or (deep and _is_deep(file, subset)))):
        return None
    if kind in ("hdf5", "matlab", "npy") and subset is not None:
        return [(f"{file.name}:{subset}", [Path(f"{file}:{subset}")])]
    _no_subset(str(file), subset)
    return [(path.name, [path])]


def _is_deep(path: Path, subset: str | None) -> bool:
    """Whether an array of numpy holds numbers of more than 8 bits."""
    try:
        stack = read_stack(f"{path}:{subset}" if subset else path)
    except InnverseError:
        return False  # whoever reads it says why
    return not stack.eight_bit


def split(
    source: ImageSource, held_out: float | int = 0.1, seed: int = 0
) -> tuple[ImageSource, ImageSource]:
    """Split into (train, held out).

    The order is that of a hash of seed and name, so it depends neither on the machine nor on the
    order of the files, and adding images moves few others across. Images of one group stay together,
    so that more of them may be held out than asked for; of a single group the last are held out.

    Args:
        held_out: a fraction in (0, 1), or a number of images >= 1.

    Raises:
        UsageError: a fraction out of range, or nothing left to train on.

    Example:
        >>> import numpy as np
        >>> source = ImageSource(list("abcdefghij"), np.zeros((10, 1, 4, 4), np.uint8))
        >>> train, held_out = split(source, 2)
        >>> len(train), len(held_out)
        (8, 2)
    """
    if isinstance(held_out, float) and not 0 < held_out < 1:
        raise UsageError(f"held_out={held_out} is not a fraction in (0, 1); or give a whole number")
    n = max(1, round(held_out * len(source))) if isinstance(held_out, float) else held_out
    if not 1 <= n < len(source):
        raise UsageError(
            f"cannot hold out {n} of {len(source)} images; hold out fewer or add images"
        )
    groups = source.groups or source.names
    if len(set(groups)) == 1 < len(source):
        return source.subset(range(len(source) - n)), source.subset(
            range(len(source) - n, len(source))
        )
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)

    def digest(group: str) -> bytes:
        return hashlib.blake2b(f"{seed}:{group}".encode(errors="surrogateescape")).digest()

    held: list[int] = []
    for group in sorted(members, key=digest)[:-1]:
        if len(held) >= n:
            break
        held += members[group]
    rest = sorted({*range(len(source))} - {*held})
    return source.subset(rest), source.subset(sorted(held))


def _idx_part(folder: Path, parts: dict[str, Path], subset: str | None) -> Path:
    """One of a folder's IDX files: that of ``subset``, else the only one or the training images."""
    training = [part for part in parts if part.endswith("train")]
    if subset is None and len(parts) > 1 and len(training) == 1:
        subset = training[0]
    if subset is None and len(parts) == 1:
        return next(iter(parts.values()))
    if subset not in parts:
        which = "say which part" if subset is None else f"no part {subset!r}"
        raise InputError(f"{folder}: {which}; {archives.listing(parts)}")
    return parts[subset]


def _no_subset(name: str, subset: str | None) -> None:
    if subset is not None:
        raise UsageError(f"{name} has no subsets; leave out the subset {subset!r}")


class _Files:
    """Encoded images, of which the first ones are kept decoded and the others decoded at each
    use."""

    def __init__(self, names, readers, cached, mode, failures):
        self.names, self.readers, self.cached = names, readers, cached
        self.mode, self.failures = mode, failures

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> np.ndarray:
        if i < len(self.cached):
            return self.cached[i]
        for k in range(len(self)):  # a file that breaks later on is replaced by the next good one
            j = (i + k) % len(self)
            if j < len(self.cached):
                return self.cached[j]
            try:
                with quiet():
                    return decode(self.readers[j](), self.names[j], self.mode).as_uint8()
            except InputError as error:
                if (self.names[j], str(error)) not in self.failures:
                    self.failures.append((self.names[j], str(error)))
        raise InputError(f"none of the {len(self)} images can be read: {self.failures[-1][1]}")


def _from_files(
    entries: Sequence[Entry],
    channels: int | None,
    cache_bytes: int,
    label: str,
    failures: list[tuple[str, str]] | None = None,
) -> ImageSource:
    mode = {None: None, 1: "L", 3: "RGB"}[channels]
    failures = [] if failures is None else failures

    def load(entry):
        name, read = entry
        try:
            return decode(read(), name, mode).as_uint8()
        except InputError as error:
            return str(error)

    names, readers, cached, used, done = [], [], [], 0, 0
    workers = min(8, os.cpu_count() or 1)
    # Pillow decodes outside the interpreter lock, so threads are enough
    with quiet(), ThreadPoolExecutor(workers) as pool:
        while done < len(entries) and used < cache_bytes:
            chunk = entries[done : done + 64]
            for (name, read), result in zip(chunk, pool.map(load, chunk), strict=True):
                if isinstance(result, str):
                    failures.append((name, result))
                else:
                    names.append(name)
                    readers.append(read)
                    cached.append(result)
                    used += result.nbytes
            done += len(chunk)
    names += [name for name, _ in entries[done:]]
    readers += [read for _, read in entries[done:]]
    if not names:
        first = f"; the first: {failures[0][1]}" if failures else ""
        raise InputError(f"{label}: none of {len(entries)} images can be read{first}")

    if mode is None and any(image.shape[0] == 3 for image in cached):
        cached = [np.repeat(x, 3, axis=0) if x.shape[0] == 1 else x for x in cached]
        mode = "RGB"
    mode = mode or "L"
    if done == len(entries) and len({image.shape for image in cached}) == 1:
        return ImageSource(names, np.stack(cached), failures)
    return ImageSource(names, _Files(names, readers, cached, mode, failures), failures)


def _from_array(array, label, channels, layout, cache_bytes) -> ImageSource:
    rows = arrays.Rows(array, label, channels, layout)
    names = [f"{i:07d}" for i in range(len(rows))]
    items = rows.whole() if rows.nbytes <= cache_bytes else rows
    return ImageSource(names, items)


def image_files(path: str | os.PathLike) -> list[Path]:
    """The pictures in a folder, in the order of their names; a file stands for itself.

    Raises:
        InputError: a folder without pictures, or one that cannot be read.
    """
    path = Path(path)
    if not os.path.isdir(path):
        return [path]
    try:
        inside = sorted(p for p in path.iterdir() if p.is_file() and is_image_name(p.name))
    except OSError as error:
        raise read_error(path, error) from None
    if not inside:
        raise InputError(f"{path} has no image files; give a folder with PNG, JPEG, DICOM, ...")
    return inside


def _folder(root: Path, subset: str | None) -> list[Entry]:
    start = root / subset if subset else root
    if not start.is_dir():
        inside = sorted(p.name for p in root.iterdir() if p.is_dir())
        raise InputError(f"{root} has no folder {subset!r}; {archives.listing(inside)}")
    found, seen = [], set()
    for folder, inner, files in os.walk(start, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a symbolic link back to a parent
            inner.clear()
            continue
        seen.add(real)
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [Path(folder, name) for name in files if is_image_name(name)]
    if not found:
        raise InputError(
            f"{start} has no image files; give a folder with PNG, JPEG, DICOM, ... in it"
        )
    named = {path.relative_to(root).as_posix(): path for path in found}
    return [(name, partial(read_file, path)) for name, path in sorted(named.items())]


def _photographs(subset: str | None) -> list[Entry]:
    from importlib.util import find_spec

    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise InnverseError(
            'the "skimage" photographs need scikit-image: pip install "innverse[demo]"'
        )
    folder = Path(spec.origin).parent / "data"
    found = {Path(name).stem: folder / name for name in _PHOTOGRAPHS if (folder / name).is_file()}
    wanted = [name.strip() for name in subset.split(",")] if subset else list(found)
    for name in wanted:
        if name not in found:
            raise InputError(f"skimage has no photograph {name!r}; {archives.listing(found)}")
    return [(name, partial(read_file, found[name])) for name in wanted]
