"""The test pictures of Asim et al. 2020 at 64x64, and what stands in for them where they are not.

With ``faces_test.tar`` (or a folder of the same layout) the sets are those of the paper. Other data
are one set. Without any, the faces inside scikit-image take the place of CelebA-HQ: the portrait
"astronaut", then `lfw_subset` (25x25 and gray, enlarged; LFW is also among what `faces64` trained
on), so that everything runs anywhere; their numbers say little about the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...data import open_images
from ...errors import InputError
from ..pictures import crop, photograph, small_faces

SIDE = 64
SHAPE = (3, SIDE, SIDE)

# set: (folder in faces_test.tar, what it is)
_PUBLISHED = {
    "celebahq": ("celebahq", "CelebA-HQ faces"),
    "ffhq": ("ffhq", "FFHQ faces"),
    "birds": ("birds12", "birds"),
    "flowers": ("flowers12", "flowers"),
    "odd": ("ood28", "the 28 odd images"),
}
# the face, framed as CelebA-HQ is
_ASTRONAUT = (10, 140, 170, 170)
_PHOTOGRAPHS = ("chelsea", "coffee", "rocket", "motorcycle_left", "brick", "grass")


@dataclass(frozen=True)
class Pictures:
    """A set: images (N, 3, 64, 64) on [0, 1], their names, and in words where they come from."""

    x: Tensor
    names: tuple[str, ...]
    about: str


def picture_sets(data: str | None, most: int) -> dict[str, Pictures]:
    """All sets, with ``most`` pictures each at most: in distribution first, then the others.

    Raises:
        InputError: no readable pictures. InnverseError: scikit-image is not installed.
    """
    sets = _packaged_faces(most) if data is None else _from(data, most)
    first = next(iter(sets.values()))
    sets["inverted"] = Pictures(1 - first.x, first.names, f"{first.about}, negative")
    sets["rotated"] = Pictures(
        first.x.rot90(2, (-2, -1)), first.names, f"{first.about}, upside down"
    )
    sets["photographs"] = _photographs(most)
    digits = _digits(most)
    return sets if digits is None else sets | {"digits": digits}


def _from(data: str, most: int) -> dict[str, Pictures]:
    sets = {}
    for name, (folder, about) in _PUBLISHED.items():
        try:
            source = open_images(data, subset=folder, channels=3, cache_bytes=1)
        except InputError:
            continue
        sets[name] = _read(source, most, about)
    return sets or {"images": _read(open_images(data, channels=3, cache_bytes=1), most, str(data))}


def _read(source, most: int, about: str) -> Pictures:
    count = min(most, len(source))
    x = [square(source[i].float() / 255) for i in range(count)]
    return Pictures(torch.stack(x), tuple(source.name(i) for i in range(count)), about)


def square(x: Tensor) -> Tensor:
    """The middle square of (3, H, W), area-averaged (or enlarged) to 64x64."""
    height, width = x.shape[-2:]
    side = min(height, width)
    return crop(x, ((height - side) // 2, (width - side) // 2, side, side), SIDE)


def _packaged_faces(most: int) -> dict[str, Pictures]:
    small = small_faces()[: max(0, most - 1)].expand(-1, 3, -1, -1)
    x = [crop(photograph("astronaut", 3), _ASTRONAUT, SIDE), *map(square, small)]
    names = ("astronaut", *(f"lfw_subset/{i:03d}" for i in range(len(small))))
    about = "faces inside scikit-image, standing in for CelebA-HQ"
    return {"celebahq": Pictures(torch.stack(x), names, about)}


def _photographs(most: int) -> Pictures:
    source = open_images("skimage", subset=",".join(_PHOTOGRAPHS[:most]), channels=3)
    return _read(source, most, "photographs inside scikit-image")


def _digits(most: int) -> Pictures | None:
    """scikit-learn's digits, white on black, or None without scikit-learn."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        return None
    return _read(open_images("digits", channels=3), most, "digits of scikit-learn")
