"""Coils, their sensitivities, and images reconstructed through them."""

from __future__ import annotations

import math

import pytest
import torch

from innverse.errors import InnverseError
from innverse.physics.mri import (
    MRI,
    _noise_of_coils,
    _unexplained,
    as_channels,
    as_complex,
    calibration_size,
    estimate_sensitivities,
    root_sum_of_squares,
)

H, W, COILS = 48, 40, 4
GEN = torch.Generator().manual_seed(0)


def coils() -> torch.Tensor:
    """Smooth sensitivities, of unit length at every pixel, the first one real."""
    y = torch.linspace(-1, 1, H, dtype=torch.float64)[:, None]
    x = torch.linspace(-1, 1, W, dtype=torch.float64)[None, :]
    parts = []
    for j in range(COILS):
        a = 2 * math.pi * j / COILS
        size = torch.exp(-((x - math.cos(a)).square() + (y - math.sin(a)).square()) / 2)
        parts.append(torch.polar(size, 0.6 * j * x - 0.3 * j * y))
    s = torch.stack(parts)
    return s / s.abs().square().sum(0).sqrt()


def image() -> torch.Tensor:
    """A real picture with edges, nowhere zero."""
    x = torch.full((1, 1, H, W), 0.3, dtype=torch.float64)
    x[..., 10:30, 12:28] = 0.8
    x[..., 20:40, 8:16] = 0.6
    return x


def lines(every: int = 2, middle: int = 16) -> torch.Tensor:
    mask = torch.zeros(H, W, dtype=torch.float64)
    mask[:, ::every] = 1
    mask[:, W // 2 - middle // 2 : W // 2 + middle // 2] = 1
    return mask


def kspace(x, s) -> torch.Tensor:
    return as_complex(MRI(s, torch.ones(H, W)).A(x))[0]


def test_a_full_measurement_is_inverted_by_the_adjoint():
    physics = MRI(coils(), torch.ones(H, W))
    assert torch.allclose(physics.A_adjoint(physics.A(image())), image())
    complex_one = MRI(coils(), torch.ones(H, W), complex_image=True)
    x = torch.randn(2, 2, H, W, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(complex_one.A_adjoint(complex_one.A(x)), x)
    k = as_complex(physics.A(image()))
    assert torch.allclose(root_sum_of_squares(k), image())
    assert torch.allclose(as_complex(as_channels(k)), k)


def test_sensitivities_are_found_from_the_middle_of_k_space():
    s, x = coils(), image()
    found = estimate_sensitivities(kspace(x, s), 20)
    assert torch.allclose(found.abs().square().sum(0), torch.ones(H, W, dtype=torch.float64))
    # the first coil is real in both; away from the border of the field of view
    want = s * torch.polar(torch.ones(H, W, dtype=torch.float64), -s[0].angle())
    error = (found - want).abs().square().sum(0).sqrt()[6:-6, 6:-6]
    assert error.mean() < 0.05


def test_half_the_lines_are_completed_by_the_coils():
    s, x = coils(), image()
    physics = MRI(s, lines())
    y = physics.A(x)
    parallel = physics.solve_normal(physics.A_adjoint(y), 1e-6)
    folded = physics.A_adjoint(y)
    assert (parallel - x).abs().max() < 1e-2 < 0.2 * (folded - x).abs().max()


def test_the_phase_of_the_image_moves_into_the_sensitivities():
    s, x = coils(), image()
    y = torch.linspace(-1, 1, H, dtype=torch.float64)[:, None].expand(H, W)
    turned = s * torch.polar(torch.ones_like(y), 1.3 * y)  # the image's phase, say of the field
    k = kspace(x, turned)
    found = estimate_sensitivities(k, 20, phase=True)
    real = MRI(found, torch.ones(H, W)).A_adjoint(as_channels(k[None]))
    assert (real - x).abs()[..., 6:-6, 6:-6].mean() < 0.02


def test_calibration_size():
    assert calibration_size(lines(2, 16)) == (H, 17)
    assert calibration_size(torch.zeros(8, 8)) == (0, 0)


def test_the_noise_of_coils_is_seen_at_the_highest_frequencies():
    sizes = torch.tensor([1.0, 2.0, 0.5, 1.0]).view(-1, 1, 1)
    noise = torch.randn(COILS, H, W, dtype=torch.complex128, generator=GEN) * 2**0.5
    k = 1000 * kspace(image(), coils()) * (lines(W, 8) > 0) + sizes * noise * (lines(1) > 0)
    assert torch.allclose(_noise_of_coils(k), sizes.flatten().double(), rtol=0.15)


def test_what_no_image_explains_is_noise_or_wrong_sensitivities():
    s = coils()
    physics = MRI(s, lines(2, 16))
    noise = 0.02 * torch.randn(COILS, H, W, dtype=torch.complex128, generator=GEN) * 2**0.5
    k = (kspace(image(), s) + noise) * lines(2, 16)
    assert torch.allclose(_unexplained(physics, k), torch.full((COILS,), 0.02).double(), rtol=0.15)
    wrong = MRI(s.flip(0), lines(2, 16))
    assert float(_unexplained(wrong, k).max()) > 0.04


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: MRI(torch.ones(4, H, W), lines()), "must be complex"),
        (lambda: MRI(coils(), lines()[:-1]), "does not fit coils"),
        (lambda: MRI(coils() * math.nan, lines()), "NaN"),
        (lambda: MRI(coils(), lines()).A_adjoint(torch.zeros(1, 6, H, W)), "8, 48, 40"),
        (lambda: estimate_sensitivities(torch.zeros(4, H, W)), "must be complex"),
        (lambda: estimate_sensitivities(kspace(image(), coils()) * lines(4, 6), 20), "smaller cal"),
        (lambda: estimate_sensitivities(kspace(image(), coils()), around=4), "odd"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(call, words):
    with pytest.raises(InnverseError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
