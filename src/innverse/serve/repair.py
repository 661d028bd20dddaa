"""What a visitor wants of a picture, and the same in Python and on the command line."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..data.image_io import to_pil
from ..errors import InputError, UsageError
from ..progress import Report, part
from ..report import Heat
from .jobs import Product
from .limits import Limits
from .uploads import Upload, Uploads

PHYSICS = {
    "repair": "inpainting",
    "denoise": "denoising",
    "deblur": "blur",
    "enlarge": "downsampling",
}
_SHOWN = 12  # draws that flicker
_DRAWS: dict[str, dict[str, Any]] = {
    "quick": {"draws": 32, "chains": 8},
    "exact": {"draws": 200, "chains": 4, "warmup": 60},
}
_METHODS = {"quick": "langevin", "exact": "posterior"}
_FIRST = 0.3  # share of the time for the picture, where an error bar follows
_ASSUMED = 0.01  # noise of pictures that were said to have none, for their error bars


class Repair(BaseModel):
    """A picture, what became of it, and what is known of that.

    Attributes:
        picture, mask: ids of uploads; black in the mask is missing.
        task: "repair" what is missing, "denoise", "deblur", "enlarge".
        clean: the picture is a good one: damage it first.
        noise: standard deviation on [0, 1]; None estimates it.
        width: of the blur, in pixels. factor: by which to enlarge.
        error_bar: "none", "quick" (approximate) or "exact".
    """

    model_config = ConfigDict(extra="forbid")

    picture: str = Field(max_length=64)
    mask: str | None = Field(None, max_length=64)
    task: Literal["repair", "denoise", "deblur", "enlarge"] = "repair"
    clean: bool = False
    noise: Annotated[float, Field(ge=0, le=0.5)] | None = 0.0
    width: float = Field(1.5, gt=0, le=8)
    factor: Literal[2, 3, 4] = 2
    error_bar: Literal["none", "quick", "exact"] = "none"
    seed: int = Field(0, ge=0, lt=2**31)

    def options(self) -> dict[str, Any]:
        """Of the operator, as `restore` takes them."""
        return {
            "repair": {},
            "denoise": {},
            "deblur": {"kernel": f"gaussian:{self.width:g}"},
            "enlarge": {"factor": self.factor},
        }[self.task]

    def level(self) -> float | str | None:
        """The noise, as `restore` takes it."""
        if self.noise is None:
            return "auto"
        if self.task == "denoise" and self.noise == 0:
            raise UsageError("a picture without noise needs no denoising: say how much there is")
        return self.noise or None

    def as_command(self) -> str:
        """The command line that gives the same picture."""
        words = ["innverse solve photo.png", f"--physics {PHYSICS[self.task]}"]
        words += [f"--{k} {v}" for k, v in self.options().items()]
        words += ["--mask mask.png"] if self.task == "repair" else []
        words += ["--simulate"] if self.clean else []
        words += [] if (level := self.level()) is None else [f"--noise {level}"]
        words += [f"--seed {self.seed}", "--out result"]
        return " ".join(words)

    def as_python(self) -> str:
        """The lines of Python that give the same picture."""
        given = [f"{k}={v!r}" for k, v in self.options().items()]
        given += ['mask="mask.png"'] if self.task == "repair" else []
        given += ["simulate=True"] if self.clean else []
        given += [] if (level := self.level()) is None else [f"noise={level!r}"]
        arguments = ", ".join(
            ['"photo.png"', f'"{PHYSICS[self.task]}"', *given, f"seed={self.seed}"]
        )
        return (
            "from innverse.restoration import restore\n\n"
            f'(found,) = restore({arguments}, out="result")\n'
            "print(found.status, found.image.shape)"
        )


def work_on(wish: Repair, uploads: Uploads, limits: Limits) -> Callable[[Report], Product]:
    """The job of a wish, checked.

    Raises:
        InnverseError: a wish that makes no sense.
    """
    picture = uploads.get(wish.picture)
    known = None
    if wish.task == "repair":
        if wish.mask is None:
            raise InputError("paint what is missing first")
        known = _known(uploads.get(wish.mask), picture)
    larger = 1 if wish.clean or wish.task != "enlarge" else wish.factor**2
    _check_size(wish, picture.pixels[0].numel() * larger, limits)
    level = wish.level()

    def work(report: Report) -> Product:
        from ..restoration import restore

        x, given = picture.image, wish.options()  # only now: what waits in the line is small
        if known is not None:
            given["mask"] = known.float()
        common: dict[str, Any] = {"simulate": wish.clean, "seed": wish.seed, **given}
        first = 1.0 if wish.error_bar == "none" else _FIRST
        (found,) = restore(
            x, PHYSICS[wish.task], noise=level, progress=part(report, 0, first, "", 1.0), **common
        )
        product = Product(told={
            "notes": found.notes,
            "status": found.status,
            "seconds": found.summary["seconds"],
            "method": found.summary["method"],
            "quality": found.summary["result"],
            "before": found.summary["degraded"],
            "command": wish.as_command(),
            "python": wish.as_python(),
        })  # fmt: skip
        image = found.image
        assert image is not None
        product.files["result.png"] = png(image)
        product.files["before.png"] = png(_seen(wish, x, image, given))
        if wish.error_bar != "none":
            method = _METHODS[wish.error_bar]
            noise = level if wish.noise is None else max(wish.noise, _ASSUMED)
            (bars,) = restore(
                x, PHYSICS[wish.task], method=method, noise=noise,
                progress=part(report, first, 1.0, "error bar", 1.0),
                **_DRAWS[wish.error_bar], **common,
            )  # fmt: skip
            _add_error_bar(product, bars)
        return product

    return work


def _check_size(wish: Repair, pixels: int, limits: Limits) -> None:
    most = {"none": 4 * limits.pixels, "quick": limits.quick, "exact": limits.exact}[wish.error_bar]
    if pixels > most:
        what = {"none": "a result", "quick": "a quick error bar", "exact": "an exact error bar"}
        side = int(most**0.5)
        raise InputError(
            f"{what[wish.error_bar]} is for pictures of up to {side}x{side} pixels here: cut out a "
            "part, or ask for less"
        )


def _known(mask: Upload, picture: Upload) -> Tensor:
    """(H, W), true where the picture is known."""
    bright = mask.pixels.sum(0, dtype=torch.int16)
    known, size = 2 * bright > 255 * len(mask.pixels), picture.pixels.shape[1:]
    if known.shape != size:
        known = F.interpolate(known[None, None].float(), size, mode="nearest")[0, 0] > 0.5
    if not bool(known.any()):
        raise InputError("everything is painted over: leave a part of the picture")
    if bool(known.all()):
        raise InputError("paint what is missing first")
    return known


def _seen(wish: Repair, x: Tensor, result: Tensor, given: dict[str, Any]) -> Tensor:
    """What was there, at the size of the result."""
    if wish.task == "repair":
        return x * given["mask"]
    if wish.clean:
        from ..restoration.setting import Setting

        noise = wish.noise or 0.0
        setting = Setting.of(
            PHYSICS[wish.task], wish.options(), noise=noise, simulate=True, seed=wish.seed
        )
        c, h, w = x.shape
        operator = setting.physics((c, h, w))
        with torch.no_grad():
            x = operator(x[None], generator=torch.Generator().manual_seed(wish.seed))[0]
    return F.interpolate(x[None], result.shape[-2:], mode="nearest")[0]


def _add_error_bar(product: Product, bars) -> None:
    """The deviation as an overlay, and draws one after the other."""
    heat = Heat(bars.std)
    product.files["std.png"] = file_of(heat.image())
    product.files["mean.png"] = png(bars.image)
    shown = bars.draws[:: max(1, len(bars.draws) // _SHOWN)][:_SHOWN]
    for k, draw in enumerate(shown):
        product.files[f"draw{k}.png"] = png(draw)
    told = bars.summary["posterior"]
    product.told["error_bar"] = {
        "largest": heat.top,
        "median": told["std"]["median"],
        "draws": len(shown),
        "of": told["quantity_of_mean"],
        "approximate": told.get("approximate"),
        "status": bars.status,
    }


def png(x: Tensor) -> tuple[str, bytes]:
    return file_of(to_pil(x.nan_to_num(0.5).clamp(0, 1)))


def file_of(picture) -> tuple[str, bytes]:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "image/png", file.getvalue()
