"""From the files and flags of ``innverse solve`` to measurements with their operators."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import physics as operators
from ..data import Image, read_image, read_mask
from ..data.arrays import load_numpy
from ..data.sources import is_image_name
from ..errors import InnverseError, InputError, ShapeError, UsageError
from ..physics.registry import ALIASES, measures_images
from ..reading import read_error
from ..solvers.measurement import floating

# which flags (by the name of their option) belong to which operator
_FLAGS = {
    "denoising": (),
    "inpainting": ("mask", "keep"),
    "blur": ("kernel", "boundary"),
    "downsampling": ("factor", "boundary"),
    "compressed_sensing": ("ratio",),
    "fourier": ("mask", "acceleration"),
}


@dataclass
class Setup:
    """The operator as the user described it; ``options`` holds the flags that were given."""

    name: str
    options: dict[str, Any]
    noise: float | str | None = None  # "auto" is estimated
    simulate: bool = False
    seed: int = 0
    image_shape: tuple[int, int, int] | None = None
    kernel: Tensor | None = field(default=None, repr=False)
    x_range: tuple[float, float] | None = None

    def __post_init__(self):
        self.name = ALIASES.get(self.name, self.name)
        if self.name not in _FLAGS:
            operators.build(self.name, (1, 8, 8))  # raises the error that lists the names
        for key in self.options:
            if key not in _FLAGS[self.name]:
                mine = ", ".join(f"--{flag}" for flag in _FLAGS[self.name]) or "none"
                raise UsageError(
                    f"--{key} has no meaning for --physics {self.name}; its own options: {mine}"
                )
        if isinstance(self.noise, float) and self.noise < 0:
            raise UsageError(f"--noise {self.noise:g}: must be >= 0")
        if self.noise is None and self.name == "denoising":
            raise UsageError(
                "--physics denoising needs --noise SIGMA, on the scale of 0 to 1: 25/255 for grainy, "
                "or auto"
            )
        if self.name == "inpainting" and "mask" not in self.options and not self.simulate:
            raise UsageError(
                "--physics inpainting needs --mask FILE (black = missing), or --simulate with "
                "--keep to remove pixels from a clean picture"
            )
        if len({"mask", "keep"} & set(self.options)) == 2:
            raise UsageError("give --mask or --keep, not both")
        if len({"mask", "acceleration"} & set(self.options)) == 2:
            raise UsageError("give --mask or --acceleration, not both")
        if self.name == "blur" and "kernel" not in self.options and not self.simulate:
            raise UsageError(
                "--physics blur needs --kernel: a file, gaussian:WIDTH or motion:LENGTH:ANGLE"
            )
        if self.name == "blur":
            self.kernel = parse_kernel(self.options.get("kernel", "gaussian:1.6"))

    def operator(self, shape: tuple[int, int, int]):
        """The operator for images of ``shape`` (C, H, W)."""
        given = {k: v for k, v in self.options.items() if k != "kernel"}
        if "mask" in given:
            given["mask"] = read_mask(given["mask"], shape[-2:])
        if self.kernel is not None:
            given["kernel"] = self.kernel
        if "seed" in operators.options(self.name):
            given["seed"] = self.seed
        sigma = None if self.noise == "auto" else self.noise
        return operators.build(self.name, shape, sigma=sigma, **given)

    def describe(self) -> dict[str, Any]:
        """For result.json: the operator with the options in force."""
        defaults = operators.options(self.name) | {"kernel": "gaussian:1.6"}
        options = {flag: self.options.get(flag, defaults[flag]) for flag in _FLAGS[self.name]}
        if options.get("mask") is not None:
            options = {"mask": options["mask"]}
        return {"name": self.name, **options, "noise": self.noise}


@dataclass
class Job:
    """One file: its measurement, and the image it comes from if that is known.

    Attributes:
        name: of the folder for its results.
        channels: of the image, 1 or 3.
        y: (P, ...) where P planes are solved as P problems: 1, or the channels of a colour
            image under a gray prior.
        clean: (1, C, H, W) in simulations.
        picture: the file as it was read; None for arrays.
        seen: what to show as the input, (1, C, h, w).
        failure: why there is no result.
    """

    path: Path
    name: str
    channels: int = 1
    y: Tensor | None = None
    physics: Any = None
    prior: str = ""
    clean: Tensor | None = None
    picture: Image | None = None
    seen: Tensor | None = None
    failure: str = ""

    @property
    def planes(self) -> int:
        return len(self.y)

    def image(self, x: Tensor) -> Tensor:
        """(P, C / P, ...) -> (1, C, ...): the planes put together again."""
        return x if self.planes == 1 else x.transpose(0, 1)


def find_files(arguments: Iterable[str]) -> list[Job]:
    """The jobs of files and folders, each with a name of its own.

    Raises:
        InputError: a folder without images.
    """
    paths: list[Path] = []
    for text in arguments:
        path = Path(text)
        if os.path.isdir(path):
            inside = sorted(p for p in _inside(path) if p.is_file() and is_image_name(p.name))
            if not inside:
                raise InputError(f"{path} has no image files; give a folder with PNG, JPEG, ...")
            paths += inside
        else:
            paths.append(path)
    jobs, taken = [], set()
    for path in paths:
        name, k = path.stem or "image", 2
        while name.lower() in taken:
            name, k = f"{path.stem}-{k}", k + 1
        taken.add(name.lower())
        jobs.append(Job(path, name))
    return jobs


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise read_error(folder, error) from None


def prepare(job: Job, setup: Setup, choose_prior) -> None:
    """Read the file of a job and make its measurement.

    ``choose_prior(channels) -> (name, channels of the prior)``.

    Raises:
        InnverseError: whatever is wrong with the file.
    """
    if job.path.suffix.lower() == ".npy":
        _from_array(job, setup, choose_prior)
        return
    if not measures_images(setup.name) and not setup.simulate:
        raise UsageError(
            f"--physics {setup.name} does not measure pictures: give its measurement as .npy with "
            "--image-shape, or --simulate to measure a clean picture"
        )
    job.picture = read_image(job.path, x_range=setup.x_range)
    picture = job.picture.tensor[None]
    job.channels = picture.shape[1]
    job.prior, known = choose_prior(job.channels)
    if known == 1 and job.channels == 3 and bool((picture == picture[:, :1]).all()):
        picture, job.channels = picture[:, :1], 1  # a gray picture saved as colour
    planes = _planes(job, picture, known)
    if setup.simulate:
        job.clean = picture
        job.physics = setup.operator(tuple(planes.shape[1:]))
        # each file has the noise of its own seed, whatever is solved beside it
        generator = torch.Generator().manual_seed(setup.seed)
        with torch.no_grad():
            job.y = job.physics(planes, generator=generator)
    else:
        c, h, w = planes.shape[1:]
        if setup.name == "downsampling":
            factor = int(setup.options.get("factor", 2))
            h, w = factor * h, factor * w
        elif setup.name == "blur" and setup.options.get("boundary") == "valid":
            h, w = (n + k - 1 for n, k in zip((h, w), setup.kernel.shape[-2:]))
        job.physics = setup.operator((c, h, w))
        job.y = planes * job.physics.mask if setup.name == "inpainting" else planes
    job.seen = _visible(job, setup.x_range)


def _from_array(job: Job, setup: Setup, choose_prior) -> None:
    """A measurement of any kind from a .npy file."""
    if setup.simulate:
        raise UsageError(f"{job.path}: --simulate takes pictures, not arrays")
    if setup.image_shape is None:
        raise UsageError(
            f"{job.path}: a measurement needs --image-shape CxHxW (1x64x64) of the image to find"
        )
    if not os.path.isfile(job.path):
        raise InputError(f"no such file: {job.path}; check the path")
    array = load_numpy(job.path)
    if array.dtype.kind == "c" and setup.name == "fourier" and array.ndim > 1:
        array = array[None] if array.ndim == 2 else array
        array = np.concatenate([array.real, array.imag], -3)  # as the operator has them
    if array.dtype.kind not in "fiub":
        raise InputError(f"{job.path} holds {array.dtype}; save real numbers (float32)")
    job.channels = setup.image_shape[0]
    job.prior, known = choose_prior(job.channels)
    job.physics = setup.operator(setup.image_shape)
    try:
        y = floating(torch.from_numpy(np.array(array)), job.physics).float()
    except InputError as error:
        raise InputError(f"{job.path}: {error}") from None
    with torch.no_grad():
        want = tuple(job.physics.A(torch.zeros(1, *setup.image_shape)).shape)
    if tuple(y.shape) not in (want, want[1:]):
        raise ShapeError(
            f"{job.path} has shape {tuple(y.shape)} but {setup.name} of an image "
            f"{'x'.join(map(str, setup.image_shape))} gives {want[1:]}"
        )
    job.y = y.reshape(want)
    operators.check_measurement(job.y)
    if known != job.channels:
        if not job.physics.measures_images:
            raise ShapeError(
                f"{job.path}: the image has {job.channels} channels but the prior knows {known}; "
                "give another --prior"
            )
        job.y = _planes(job, job.y, known)
        job.physics = setup.operator((1, *setup.image_shape[1:]))
    job.seen = _visible(job, setup.x_range)


def _planes(job: Job, picture: Tensor, known: int) -> Tensor:
    """(1, C, H, W) as the problems that a prior of ``known`` channels can solve."""
    if known == picture.shape[1]:
        return picture
    if known == 1:
        return picture.transpose(0, 1)  # every operator here acts on each channel alike
    raise ShapeError(
        f"{job.path} is gray but the prior {job.prior} knows {known} channels; give a gray prior"
    )


@torch.no_grad()
def _visible(job: Job, x_range: tuple[float, float] | None) -> Tensor:
    """The measurement as a picture: itself, or what the adjoint makes of it."""
    y = job.image(job.y if job.physics.measures_images else job.physics.A_dagger(job.y))
    if x_range is not None:
        y = (y - x_range[0]) / (x_range[1] - x_range[0])
    return y


def parse_kernel(text: str) -> Tensor:
    """A kernel (h, w) of unit sum from gaussian:WIDTH, motion:LENGTH:ANGLE, an image or a .npy.

    Raises:
        UsageError: a malformed description. InputError: an unusable file.
    """
    kind, *numbers = text.split(":")
    if kind in ("gaussian", "motion") and not os.path.isfile(text):
        try:
            values = [float(n) for n in numbers]
        except ValueError:
            values = []
        if kind == "gaussian" and len(values) == 1:
            return operators.gaussian_kernel(values[0])
        if kind == "motion" and len(values) in (1, 2):
            return operators.motion_kernel(*values)
        raise UsageError(
            f"--kernel {text}: write gaussian:WIDTH (gaussian:1.6) or motion:LENGTH:ANGLE "
            "(motion:15:30), in pixels and degrees"
        )
    path = Path(text)
    if path.suffix.lower() == ".npy" and os.path.isfile(path):
        kernel = torch.tensor(load_numpy(path), dtype=torch.float32)
    else:
        kernel = read_image(path, "L").tensor[0]
    if kernel.dim() != 2:
        raise ShapeError(f"--kernel {text}: a kernel has shape (h, w), not {tuple(kernel.shape)}")
    total = kernel.sum()
    if not (torch.isfinite(kernel).all() and total > 0):
        raise InputError(f"--kernel {text}: the values must be finite with a sum above 0")
    return kernel / total


def failure(job: Job, error: InnverseError) -> None:
    """Remember why a job has no result."""
    job.failure, job.y, job.physics = " ".join(str(error).split()), None, None
