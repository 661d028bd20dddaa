"""The tasks of `innverse eval` and the scoreboard: what is measured, and how noisy it is."""

from __future__ import annotations

import pytest
import torch

from innverse.errors import UsageError
from innverse.studies import tasks


def grey(level: float = 0.5, side: int = 48):
    return torch.full((1, 1, side, side), level)


@pytest.mark.parametrize(
    "task, level",
    [
        (tasks.denoise(25), 25 / 255),
        (tasks.deblur(noise=0.02), 0.02),
        (tasks.deblur(torch.ones(3, 3) / 9, 0.05), 0.05),
        (tasks.sr(2, 0.03), 0.03),
        (tasks.mri(1, coils=4, noise=0.02), 0.02),
    ],
)
def test_noise_has_the_level_of_the_name(task, level):
    x = torch.rand(1, 1, 48, 48)
    y, physics = task.measure(x, torch.Generator().manual_seed(1))
    noise = y - physics.A(x)
    assert float(noise.std()) == pytest.approx(level, rel=5 / noise.numel() ** 0.5)


def test_blur_and_shrinking_keep_a_constant():
    for task in (tasks.deblur(noise=0.0), tasks.sr(3, 0.0), tasks.sr(4, 0.0, "bicubic")):
        y, _ = task.measure(grey(), torch.Generator())
        assert torch.allclose(y, torch.full_like(y, 0.5), atol=1e-5)


def test_the_share_of_pixels_and_columns_is_that_of_the_name():
    y, _ = tasks.inpaint(0.2).measure(grey(1.0, 50), torch.Generator())
    assert int(y.sum()) == 500
    _, physics = tasks.mri(4).measure(grey(), torch.Generator())
    assert float(physics.mask.mean()) == 0.25


@pytest.mark.parametrize("level", [0.1, 0.5])
def test_photons_through_a_slice(level):
    # a whole ray through the middle of a slice of one grey: e^(-level * WHITE) of the photons pass
    task = tasks.ct(8, photons=1e7)
    _, physics = task.measure(grey(level), torch.Generator())
    middle = physics.A(grey(level))[0, 0, 0].max()
    assert float(middle * physics.noise.absorption) == pytest.approx(level * tasks.WHITE, rel=0.05)
    clean = torch.full((1, 1, 200, 200), float(middle))
    y = physics.noise(clean, torch.Generator().manual_seed(0))
    std = float(physics.noise.std(clean).mean())
    assert float(y.std()) == pytest.approx(std, rel=0.1)
    assert abs(float(y.mean() - middle)) < 0.1 * std  # the bias is half a relative variance


def test_slices_of_another_range_absorb_as_their_units_say():
    _, usual = tasks.ct(8).measure(grey(), torch.Generator())
    _, wide = tasks.ct(8, x_range=(-1000.0, 3000.0)).measure(grey(), torch.Generator())
    assert wide.noise.absorption == pytest.approx(4 / 3 * usual.noise.absorption)


def test_an_angular_range_beyond_a_half_turn_is_refused():
    with pytest.raises(UsageError, match="180"):
        tasks.ct(60, span=270)
