"""The pictures that are restored, those that weights are tuned on, and measured kernels of motion."""

from __future__ import annotations

import tarfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from innverse.data import open_images
from innverse.physics import read_kernels

from ._setting import Setting

TUNED_ON, SIDE = 4, 128  # pictures of their middle SIDE^2 pixels
SMALL = 64  # the side that dear methods have


def middle(x: Tensor, side: int) -> Tensor:
    top, left = (x.shape[-2] - side) // 2, (x.shape[-1] - side) // 2
    return x[..., top : top + side, left : left + side]


def test(setting: Setting) -> list[Tensor]:
    """Set12, (1, 1, H, W) in [0, 1]."""
    if setting.quick:
        return [synthetic(k, 32) for k in range(2)]
    source = open_images(setting.archive("restoration_test.tar"), subset="set12", channels=1)
    return [source[i][None].float() / 255 for i in range(len(source))]


def training(setting: Setting, side: int = SIDE) -> list[Tensor]:
    """Middle parts of photographs that no test has."""
    if setting.quick:
        return [synthetic(10, 32)]
    source = open_images(setting.archive("natural_train.tar"), subset="bsds400", channels=1)
    step = len(source) // TUNED_ON
    return [middle(source[i * step][None].float() / 255, side) for i in range(TUNED_ON)]


def patches(setting: Setting, number: int, side: int) -> Tensor:
    """Patches (number, side^2) of training pictures, each without its mean."""
    if setting.quick:
        source = [synthetic(20)]
    else:
        found = open_images(setting.archive("natural_train.tar"), subset="bsds400", channels=1)
        source = [found[i][None].float() / 255 for i in range(0, len(found), 2)]
    g, each = torch.Generator().manual_seed(0), -(-number // len(source))
    taken = []
    for x in source:
        every = F.unfold(x, side)[0].T
        taken.append(every[torch.randint(len(every), (each,), generator=g)])
    found = torch.cat(taken)[:number]
    return found - found.mean(1, keepdim=True)


def kernels(setting: Setting) -> list[Tensor]:
    """The eight measured motions of Levin et al. (2009), of unit sum."""
    if setting.quick:
        return [torch.ones(1, 5) / 5]
    file = Path(setting.work) / "Levin09.mat"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(setting.archive("restoration_test.tar")) as archive:
            member = archive.extractfile("kernels/Levin09.mat")
            assert member is not None
            file.write_bytes(member.read())
    return read_kernels(file)


def synthetic(k: int, side: int = 48) -> Tensor:
    """A disc before a wave, (1, 1, side, side)."""
    t = torch.linspace(-1, 1, side)
    wave = 0.5 + 0.2 * torch.sin((5 + k) * t)[:, None] * torch.cos(4 * t)
    disc = (t[:, None] - 0.1 * (k % 3)).square() + t.square() < 0.3
    return torch.where(disc, 0.8, wave)[None, None]
