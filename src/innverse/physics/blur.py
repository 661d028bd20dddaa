"""A = convolution with a point spread function."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..catalog import Operator
from ..errors import InputError, ShapeError, UsageError
from ..options import OptionError, anything, choice, real, whole
from ..shapes import tensor_of
from .base import LinearPhysics, per_item, size_of
from .convolution import BOUNDARIES, fast_size, fold
from .kept import Kept
from .kernels import read_kernel


class Blur(LinearPhysics):
    """y = k * x, a true convolution (the kernel is flipped), centred at pixel ``size // 2``.

    Every kernel goes through the FFT, whose cost does not grow with the kernel; boundaries other
    than circular extend the image first. Output has the size of the image, or with "valid" only
    the pixels that the kernel covers fully, (H - h + 1, W - w + 1).

    Args:
        kernel: (h, w), (1, 1, h, w) or one per channel (1, C, h, w); any size, even ones too.
        boundary: "circular", "reflect" (without repeating the edge), "symmetric" (which repeats it),
            "replicate", "zero", "valid".
        noise: sigma or a noise model.
        image_shape: (C, H, W), or None for any image.

    Example:
        >>> physics = Blur(gaussian_kernel(1.5), noise=0.01)
        >>> physics(torch.rand(2, 1, 16, 16)).shape  # blurred, and noise of deviation 0.01
        torch.Size([2, 1, 16, 16])
    """

    def __init__(self, kernel: Tensor, boundary: str = "circular", noise=None, image_shape=None):
        super().__init__(image_shape, noise)
        kernel = tensor_of(kernel, "a blur kernel is a tensor or an array")
        if kernel.is_complex():
            raise InputError("the blur kernel is complex: give real numbers")
        if not kernel.is_floating_point():
            kernel = kernel.to(torch.get_default_dtype())
        if kernel.ndim == 2:
            kernel = kernel[None, None]
        if kernel.ndim != 4 or kernel.shape[0] != 1 or kernel.numel() == 0:
            raise ShapeError(
                f"a kernel has shape (h, w), (1, 1, h, w) or (1, C, h, w), got "
                f"{tuple(kernel.shape)}"
            )
        if not bool(torch.isfinite(kernel).all()):
            raise InputError("the blur kernel contains NaN or Inf")
        if not bool(kernel.any()):
            raise InputError("the blur kernel is zero everywhere")
        if boundary not in (*BOUNDARIES, "valid"):
            raise UsageError(
                f"unknown boundary {boundary!r}: choose {', '.join((*BOUNDARIES, 'valid'))}"
            )
        self.boundary = boundary
        self.direct = boundary == "circular"
        self.register_buffer("kernel", kernel)
        self._otf = Kept()

    measures_images = acts_per_channel = True
    kernel: Tensor

    def norms_squared(self, x_shape, iters=30):
        if self.boundary != "circular":
            return super().norms_squared(x_shape, iters)
        return self._transfer(size_of(x_shape), self.kernel).abs().square().amax().reshape(1)

    def A(self, x: Tensor) -> Tensor:
        self._check(x)
        height, width = x.shape[-2:]
        kh, kw = self.kernel.shape[-2:]
        if self.boundary == "circular":
            return self._filter(x, conjugate=False)
        if self.boundary != "valid":
            x = _extend(_extend(x, -2, kh, self.boundary), -1, kw, self.boundary)
        elif height < kh or width < kw:
            raise ShapeError(
                f"a valid blur by a {kh}x{kw} kernel needs a larger image, got {height}x{width}"
            )
        # circular wrap-around only reaches the first kh - 1 rows, which are not valid anyway
        rows, columns = x.shape[-2:]
        grown = F.pad(x, (0, fast_size(columns) - columns, 0, fast_size(rows) - rows))
        return self._filter(grown, conjugate=False)[..., kh - 1 : rows, kw - 1 : columns]

    def A_adjoint(self, y: Tensor) -> Tensor:
        self._check(y, measured=True)
        kh, kw = self.kernel.shape[-2:]
        if self.boundary == "circular":
            return self._filter(y, conjugate=True)
        rows, columns = y.shape[-2] + kh - 1, y.shape[-1] + kw - 1
        grown = F.pad(y, (kw - 1, fast_size(columns) - columns, kh - 1, fast_size(rows) - rows))
        x = self._filter(grown, conjugate=True)[..., :rows, :columns]
        if self.boundary != "valid":
            x = _extend_adjoint(x, -2, kh, self.boundary)
            x = _extend_adjoint(x, -1, kw, self.boundary)
        return x

    def A_dagger(self, y):
        if self.boundary != "circular":
            return super().A_dagger(y)
        otf = self._transfer(y.shape[-2:], y)
        power = otf.abs() ** 2
        # frequencies that the blur extinguished stay zero
        floor = (torch.finfo(power.dtype).eps * max(y.shape[-2:])) ** 2 * power.amax((-2, -1), True)
        inverse = torch.where(power > floor, otf.conj() / power.clamp_min(floor), 0)
        return _multiply(y, inverse)

    def solve_normal(self, rhs, rho, x0=None, **options):
        if self.boundary != "circular":
            return super().solve_normal(rhs, rho, x0, **options)
        self._check(rhs)
        power = self._transfer(rhs.shape[-2:], rhs).abs() ** 2
        return _multiply(rhs, 1 / (power + per_item(rho, rhs)))

    def _preconditioner(self, like, rho):
        # away from the border the blur is the circular one
        inverse = 1 / (self._transfer(like.shape[-2:], like).abs() ** 2 + rho)
        return lambda r: _multiply(r, inverse)

    def extra_repr(self) -> str:
        return f"kernel={tuple(self.kernel.shape[-2:])}, boundary={self.boundary!r}"

    def _check(self, x, measured=False):
        if measured and self.boundary == "valid":
            shape = (None, None, None)
            if self.image_shape is not None:
                c, h, w = self.image_shape
                shape = (c, h - self.kernel.shape[-2] + 1, w - self.kernel.shape[-1] + 1)
            self.check_data(x, shape)
        else:
            self.check_image(x)
        if self.kernel.shape[1] not in (1, x.shape[1]):
            raise ShapeError(
                f"Blur has kernels for {self.kernel.shape[1]} channels, got {tuple(x.shape)}"
            )

    def _filter(self, x, *, conjugate):
        """Circular convolution; its centre is the kernel's own unless the image was extended."""
        otf = self._transfer(x.shape[-2:], x, centred=self.boundary == "circular")
        return _multiply(x, otf.conj() if conjugate else otf)

    def _transfer(self, size, like, centred=True):
        """The optical transfer function: the kernel, its centre moved to (0, 0), transformed."""

        def make() -> Tensor:
            k = self.kernel.detach().to(like)
            kh, kw = k.shape[-2:]
            rows = torch.arange(kh, device=k.device) - (kh // 2 if centred else 0)
            columns = torch.arange(kw, device=k.device) - (kw // 2 if centred else 0)
            flat = (rows % size[0])[:, None] * size[1] + (columns % size[1])[None, :]
            # a kernel larger than the picture wraps around and adds up
            wrapped = k.new_zeros(*k.shape[:2], size[0] * size[1])
            wrapped.index_add_(2, flat.reshape(-1), k.reshape(*k.shape[:2], -1))
            return torch.fft.rfft2(wrapped.reshape(*k.shape[:2], *size))

        return self._otf((tuple(size), like.dtype, like.device, centred), make)


def _multiply(x: Tensor, spectrum: Tensor) -> Tensor:
    z = torch.fft.rfft2(x.contiguous())  # old MKLs transform no expanded tensor
    return torch.fft.irfft2(z * spectrum, s=x.shape[-2:])


def _line(n: int, k: int, boundary: str, device) -> Tensor:
    before = k - 1 - k // 2
    return fold(torch.arange(n + k - 1, device=device) - before, n, boundary)


def _extend(x: Tensor, dim: int, k: int, boundary: str) -> Tensor:
    """Extend one axis by k - 1 pixels so that a valid convolution keeps the size."""
    n = x.shape[dim]
    if boundary == "zero":
        pad = (k - 1 - k // 2, k // 2)
        return F.pad(x, (0, 0, *pad) if dim == -2 else pad)
    return x.index_select(x.ndim + dim, _line(n, k, boundary, x.device))


def _extend_adjoint(x: Tensor, dim: int, k: int, boundary: str) -> Tensor:
    """The adjoint of `_extend`: what was copied outwards is added back."""
    n = x.shape[dim] - k + 1
    axis = x.ndim + dim
    if boundary == "zero":
        return x.narrow(axis, k - 1 - k // 2, n)
    shape = [*x.shape]
    shape[axis] = n
    return x.new_zeros(shape).index_add(axis, _line(n, k, boundary, x.device), x)


class NamedBlur(Operator):
    """Blurred pictures."""

    operator = Blur

    kernel: str | Tensor = anything(
        "gaussian",
        "gaussian:WIDTH, motion:LENGTH:ANGLE, shake:SEED, or a file: a picture, .npy, .npz, .mat.",
        auto="gaussian:1.6",
        required="gaussian:WIDTH, motion:LENGTH:ANGLE, shake:SEED, a picture, a .npy, .npz or .mat",
    )
    kernel_index: int | None = whole(
        None, "Which kernel of a file with several, counted from 1.", auto="the only one"
    )
    width: float = real(
        1.6, 'Standard deviation in pixels, of kernel "gaussian".', above=0, flag=False
    )
    length: float = real(15.0, 'Pixels, of kernel "motion".', above=0, flag=False)
    angle: float = real(0.0, 'Degrees, of kernel "motion".', flag=False)
    boundary: str = choice(
        "reflect",
        "What lies beyond the border.",
        ("circular", "reflect", "symmetric", "replicate", "zero", "valid"),
    )

    def build(self, shape):
        return Blur(self._kernel(), self.boundary, image_shape=shape)

    def image_shape(self, measured):
        if self.boundary != "valid":
            return measured
        channels, height, width = measured
        rows, columns = self._kernel().shape[-2:]
        return channels, height + rows - 1, width + columns - 1

    def _kernel(self) -> Tensor:
        if not isinstance(self.kernel, str):
            if self.kernel_index is not None:
                raise OptionError("kernel_index", " is for kernels from a file")
            return self.kernel
        whole = {
            "gaussian": f"gaussian:{self.width}",
            "motion": f"motion:{self.length}:{self.angle}",
            "shake": "shake:0",
        }
        return read_kernel(whole.get(self.kernel, self.kernel), self.kernel_index)
