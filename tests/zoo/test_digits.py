"""The shipped digits: the density its card promises, an exact code, samples that are digits."""

from __future__ import annotations

import re

import torch

import innverse
from innverse import zoo
from innverse.data import dequantize, open_images, split


def held_out() -> torch.Tensor:
    """The 200 digits that `innverse train configs/digits.toml` kept out."""
    return split(open_images("digits", channels=1), 200, 0)[1].stack()


def test_held_out_bits_are_those_of_the_card():
    flow = innverse.load("digits")
    noise = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    bits = flow.bits_per_dim(dequantize(held_out(), noise=noise)).mean().item()
    stated = float(
        re.search(r"bits/dim on held-out 8-bit crops \| ([\d.]+)", zoo.card("digits"))[1]
    )
    assert abs(bits - stated) < 0.1 and stated < 5.6  # 8 is the uniform density


def test_code_is_exact():
    flow = innverse.load("digits")
    x = held_out()[:20] / 255
    torch.testing.assert_close(flow.decode(flow.encode(x)), x, rtol=0, atol=1e-4)


def test_samples_are_like_digits():
    """Where digits are black, samples are: the mean picture of both agree."""
    x = innverse.load("digits").sample(500, generator=torch.Generator().manual_seed(0))
    data = open_images("digits", channels=1).stack() / 256
    difference = x.clamp(0, 1).mean(0) - data.mean(0)
    assert difference.abs().max() < 0.12
    assert torch.corrcoef(torch.stack((x.mean(0).flatten(), data.mean(0).flatten())))[0, 1] > 0.98
