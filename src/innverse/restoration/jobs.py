"""From files and arrays to measurements with their operators."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from ..data import Image, Stack, read_array, read_image
from ..data.files import format_of, is_stack, read_files, read_stack, split_name, stack_files
from ..data.npy import array_shapes
from ..data.sources import image_files
from ..data.stack import check_units, to_unit
from ..errors import InnverseError, InputError, ShapeError
from ..options import OptionError, as_number
from ..physics import LinearPhysics, Scan, check_measurement
from ..solvers.measurement import floating
from .setting import Setting
from .slices import Slice


@dataclass
class Measured:
    """What is to be solved of one input.

    Attributes:
        y: (P, ...) where P planes are solved as P problems: 1, or the channels of a colour
            image under a gray prior.
        prior: the name of its prior.
        clean: (1, C, H, W) in simulations; of a scan that was thinned the picture of all its data.
        picture: the file as it was read; None for arrays.
        x_range: the values of black and white of all these, where they are not 0 and 1.
        scan: the file of a scanner, and None for all else.
    """

    y: Tensor
    physics: LinearPhysics
    prior: str
    clean: Tensor | None = None
    picture: Image | None = None
    x_range: tuple[float, float] | None = None
    scan: Scan | None = None

    @property
    def planes(self) -> int:
        return len(self.y)

    def image(self, x: Tensor) -> Tensor:
        """(P, C / P, ...) -> (1, C, ...): the planes put together again."""
        return x if self.planes == 1 else x.transpose(0, 1)

    @torch.no_grad()
    def seen(self) -> Tensor:
        """The measurement as a picture (1, C, h, w) on [0, 1]: itself, or the classical one."""
        y = self.physics.classical(self.y) if not self.physics.measures_images else self.y
        return self.unit(self.image(y))

    def unit(self, x: Tensor) -> Tensor:
        """The picture of images (N, C, H, W), black and white at 0 and 1."""
        return to_unit(self.physics.as_picture(x), self.x_range)


@dataclass
class Job:
    """One input: a path, an array or a slice, and what became of it.

    Attributes:
        name: of the folder for its results, which slices of a stack share.
        label: what messages call it.
        error: why there is no result.
        chunk: what is solved beside it lies in the same one, whether workers do it or not.
    """

    source: Path | Tensor | Slice
    name: str
    label: str
    measured: Measured | None = None
    error: InnverseError | None = None
    chunk: int | None = None

    @property
    def several(self) -> bool:
        """Whether it is one of several slices, which are written together."""
        return isinstance(self.source, Slice) and not self.source.alone

    @property
    def known(self) -> Measured:
        """What was measured, of a job that could be used."""
        if self.measured is None:
            raise InputError(f"{self.label} could not be used")
        return self.measured


Choose = Callable[[int], tuple[str, int]]
"""``choose(channels) -> (name, channels of the prior)`` for an image of so many channels."""
ModelOf = Callable[[str], Any]
"""The prior of this name, whose ``x_range`` and ``units`` are the values that it has at 0 and 1."""


def gather(inputs: Any, setting: Setting) -> list[Job]:
    """The jobs of paths, folders and arrays, each with a name of its own.

    Raises:
        InputError: a folder without images, or something that is no input.
    """
    sources: list[tuple[str, Path | Tensor | Stack | InnverseError]] = []
    for given in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
        if isinstance(given, (str, os.PathLike)):
            sources += _from_path(Path(given), setting)
        else:
            sources += [("", item) for item in _items(_tensor(given), setting)]
    jobs: list[Job] = []
    taken: set[str] = set()
    for number, (label, source) in enumerate(sources, 1):
        label = label or f"array-{number}"
        stem = Path(split_name(label)[0].name.removesuffix(".gz")).stem or "image"
        name, k = stem, 2
        while name.lower() in taken:
            name, k = f"{stem}-{k}", k + 1
        taken.add(name.lower())
        if isinstance(source, Stack):
            several = len(source) > 1
            jobs += [
                Job(one, name, f"{label}[{one.number}]" if several else label)
                for one in Slice.all_of(source)
            ]
        elif isinstance(source, InnverseError):
            jobs.append(Job(Path(label), name, label, error=source))
        else:
            jobs.append(Job(source, name, label))
    return jobs


def _from_path(
    path: Path, setting: Setting
) -> list[tuple[str, Path | Tensor | Stack | InnverseError]]:
    """What lies there, each with its label: stacks, pictures, and why some cannot be read."""
    if not setting.measures_images and not setting.simulate:
        return [(str(p), p) for p in image_files(path)]
    if path.is_dir():
        entries = [*stack_files(path, series=True)]
        if not entries:
            return [(str(p), p) for p in image_files(path)]
    elif _is_slices(path, setting):
        entries = [(path.name, [path])]
    else:
        return [(str(path), path)]
    found: list[tuple[str, Path | Tensor | Stack | InnverseError]] = []
    for name, files in entries:
        label = str(path / name) if name != path.name else str(path)
        try:
            found.append((label, read_files(files, label)))
        except InputError as error:
            found.append((label, error))
    return found


def _is_slices(path: Path, setting: Setting) -> bool:
    """Whether a file is read as slices: all with units, and arrays of numpy but colours (3, H, W)."""
    file, array = split_name(path)
    if format_of(file) != "npy":
        return is_stack(file)
    if setting.image_shape:
        return False
    shape = array_shapes(file).get("", None)
    colour = array is None and shape is not None and len(shape) == 3 and shape[0] == 3
    return not (colour and read_stack(file).white)


def _tensor(given: Any) -> Tensor:
    if isinstance(given, PIL.Image.Image):
        given = np.asarray(given.convert("L" if given.mode in ("1", "L") else "RGB"))
        given = given if given.ndim == 2 else given.transpose(2, 0, 1)
    if isinstance(given, np.ndarray) and given.dtype.kind in "fiubc":
        given = torch.from_numpy(np.array(given, given.dtype.newbyteorder("=")))
    if not isinstance(given, Tensor):
        raise InputError(
            f"{type(given).__name__} is no input: give a path, an array or tensor, or a list of them"
        )
    return given.detach().cpu()


def _items(array: Tensor, setting: Setting) -> list[Tensor]:
    """The items of a batch."""
    if setting.simulate or setting.measures_images:
        return [*array] if array.ndim == 4 else [array]
    shape = _shape_behind(setting, "the array")
    want = _measured_shape(setting.physics(shape), shape)
    return [*array] if array.shape[1:] == want else [array]


def prepare(job: Job, setting: Setting, choose: Choose, model_of: ModelOf) -> Measured:
    """Read the input of a job and make its measurement.

    Raises:
        InnverseError: whatever is wrong with it.
    """
    source, picture, x_range = job.source, None, setting.x_range
    if isinstance(source, Path) and _is_scan(source, setting):
        scan = setting.scan(source)
        if setting.image_shape not in (None, scan.physics.known_shape):
            shapes = (
                "x".join(map(str, s)) for s in (scan.physics.known_shape, setting.image_shape)
            )
            raise ShapeError(f"{job.label}: the image behind it is {{}}, not {{}}".format(*shapes))
        name, known = choose(scan.physics.known_shape[0])
        _planes(job, scan.physics.A_adjoint(scan.y), name, known)  # does the prior fit?
        return Measured(scan.y, scan.physics, name, scan.full, x_range=setting.x_range, scan=scan)
    if isinstance(source, Slice):
        model = model_of(choose(source.stack.values.shape[1])[0])
        check_units(job.label, source.stack.units, model)
        x_range = source.scale(x_range, getattr(model, "x_range", None))
        values = source.values(x_range)
        if x_range is None:
            _check_scale_of_noise(setting, job.label, source.stack.x_range[1])
    elif isinstance(source, Path) and format_of(source) in (None, "tiff"):
        if not setting.measures_images and not setting.simulate:
            raise OptionError(
                "physics", f" {setting.name} does not measure pictures: give its measurement as an "
                "array (.npy, .h5, .mat) with ", "image_shape", ", or ", "simulate",
                " to measure a clean picture",
            )  # fmt: skip
        picture = read_image(source, x_range=setting.x_range)
        values = picture.tensor[None]
        if picture.bits <= 16:
            _check_scale_of_noise(setting, job.label, 2**picture.bits - 1)
    else:
        if isinstance(source, Path):
            source = _tensor(read_array(source))
        if not setting.simulate and (setting.image_shape or not setting.measures_images):
            return _measurement(job, source, setting, choose, model_of)
        values = _picture(job, source, x_range)
        if isinstance(job.source, Path) and source.dtype != torch.uint8:  # in the prior's units
            x_range = x_range or getattr(model_of(choose(values.shape[1])[0]), "x_range", None)
    name, known = choose(values.shape[1])
    if known == 1 and values.shape[1] == 3 and bool((values == values[:, :1]).all()):
        values = values[:, :1]  # a gray picture saved as colour
    planes = _planes(job, values, name, known)
    if setting.simulate:
        physics = setting.physics(_image_shape(planes))
        # each input has the noise of its own seed, whatever is solved beside it
        place = source.number if isinstance(source, Slice) else 0
        generator = torch.Generator().manual_seed(setting.seed + place)
        with torch.no_grad():
            y = physics(planes, generator=generator)
        return Measured(y, physics, name, values, picture, x_range)
    physics = setting.physics(setting.behind(_image_shape(planes)))
    return Measured(physics.keep_measured(planes), physics, name, None, picture, x_range)


def _is_scan(path: Path, setting: Setting) -> bool:
    """Whether a file is read as that of a scanner: of arrays of numpy those of complex numbers."""
    suffix = split_name(path)[0].suffix.lower()
    if suffix not in setting.reads or suffix != ".npy":
        return suffix in setting.reads
    return bool(np.iscomplexobj(read_array(path)))


def _check_scale_of_noise(setting: Setting, label: str, white: float) -> None:
    """
    Raises:
        UsageError: noise in grey levels of a file whose black and white are 0 and 1.
    """
    noise = as_number(setting.noise)
    if noise is not None and noise > 1 < white:
        words = f" {noise:g}: black and white of {label} are 0 and 1, so give {noise:g}/{white:g}"
        raise OptionError("noise", words)


def _measurement(
    job: Job, array: Tensor, setting: Setting, choose: Choose, model_of: ModelOf
) -> Measured:
    """A measurement of any kind."""
    shape = _shape_behind(setting, job.label)
    if array.is_complex() and setting.complex_channels and array.ndim > 1:
        array = array[None] if array.ndim == 2 else array
        array = torch.cat([array.real, array.imag], -3)  # as the operator has them
    if array.is_complex():
        raise InputError(f"{job.label} holds complex numbers; give real ones (float32)")
    name, known = choose(shape[0])
    physics = setting.physics(shape)
    try:
        y = floating(array, physics).float()
    except InputError as error:
        raise InputError(f"{job.label}: {error}") from None
    want = _measured_shape(physics, shape)
    if tuple(y.shape) not in (want, (1, *want)):
        raise ShapeError(
            f"{job.label} has shape {tuple(y.shape)} but {setting.name} of an image "
            f"{'x'.join(map(str, shape))} gives {want}"
        )
    y = y.reshape(1, *want)
    check_measurement(y)
    if known not in (1, shape[0]):
        raise ShapeError(
            f"{job.label}: the image has {shape[0]} channels but the prior knows {known}; "
            "give another prior"
        )
    if known != shape[0] and physics.acts_per_channel:
        y = _planes(job, y, name, known)
        physics = setting.physics((1, *shape[1:]))
    x_range = setting.x_range
    if setting.measures_images and isinstance(job.source, Path) and array.dtype != torch.uint8:
        x_range = x_range or getattr(model_of(name), "x_range", None)
    return Measured(y, physics, name, x_range=x_range)


def _shape_behind(setting: Setting, label: str) -> tuple[int, int, int]:
    shape = setting.image_shape or getattr(setting.operator, "image_shape", None)
    if not isinstance(shape, tuple):
        raise OptionError(
            "", f"{label}: a measurement needs ", "image_shape",
            ", CxHxW (1x64x64), of the image to find",
        )  # fmt: skip
    return shape


@torch.no_grad()
def _measured_shape(physics: LinearPhysics, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(physics.A(torch.zeros(1, *shape)).shape[1:])


def _picture(job: Job, array: Tensor, x_range: tuple[float, float] | None) -> Tensor:
    """(1, C, H, W) of an array that is a picture, on the scale of its images."""
    if x_range is None and array.dtype in (torch.uint8, torch.uint16):
        array = array.float() / torch.iinfo(array.dtype).max
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or array.is_complex():
        raise ShapeError(f"{job.label} has shape {tuple(array.shape)}: a picture is (C, H, W)")
    check_measurement(array[None])
    return array[None].float()


def _image_shape(planes: Tensor) -> tuple[int, int, int]:
    _, c, h, w = planes.shape
    return c, h, w


def _planes(job: Job, picture: Tensor, name: str, known: int) -> Tensor:
    """(1, C, H, W) as the problems that a prior of ``known`` channels can solve."""
    if known == picture.shape[1]:
        return picture
    if known == 1:
        return picture.transpose(0, 1)
    raise ShapeError(
        f"{job.label} is gray but the prior {name} knows {known} channels; give a gray prior"
    )
