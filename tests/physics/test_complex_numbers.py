"""Complex images: every operator against its own formula on complex numbers."""

from __future__ import annotations

import pytest
import torch

from innverse import physics as P
from innverse.errors import UsageError

H, W = 8, 9
MASK = P.cartesian_mask((H, W), 2.0)
COILS = torch.polar(torch.rand(3, H, W) + 0.1, torch.rand(3, H, W))
MATRIX = torch.randn(20, H * W)


def fourier(x):
    return torch.fft.fftshift(
        torch.fft.fft2(torch.fft.ifftshift(x, (-2, -1)), norm="ortho"), (-2, -1)
    )


def channels(y):
    return torch.cat((y.real, y.imag), 1)


# an operator of real images, and what it is of complex ones
OPERATORS = {
    "fourier": (P.SubsampledFourier(MASK), lambda x: channels(MASK * fourier(x))),
    "fourier complex": (P.SubsampledFourier(MASK, True), lambda x: channels(MASK * fourier(x))),
    "mri": (P.MRI(COILS, MASK), lambda x: channels(MASK * fourier(COILS * x))),
    "matrix": (P.MatrixPhysics(MATRIX, (1, H, W)), lambda x: x.flatten(1) @ (MATRIX + 0j).T),
    "complex matrix": (
        P.MatrixPhysics(MATRIX * (1 - 2j), (1, H, W)),
        lambda x: x.flatten(1) @ (MATRIX * (1 - 2j)).T,
    ),
    "inpainting": (P.Inpainting(MASK), lambda x: MASK * x),
    "denoising": (P.Denoising(), lambda x: x),
    "blur": (
        P.Blur(torch.tensor([[0.25, 0.75]])),
        lambda x: 0.75 * x + 0.25 * x.roll(-1, -1),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_taken_to_complex_images(name):
    operator, formula = OPERATORS[name]
    physics = P.ComplexAsChannels(operator)
    x = torch.randn(2, 1, H, W, dtype=torch.complex64)
    assert torch.allclose(physics.A(channels(x)), formula(x), atol=1e-5)
    assert P.check_adjoint(physics, (2, 2, H, W)) < 1e-5


@pytest.mark.parametrize("name", OPERATORS)
def test_magnitudes_of_known_phase(name):
    operator, formula = OPERATORS[name]
    phase = torch.rand(H, W)
    physics = P.Magnitudes(operator, phase)
    m = torch.rand(2, 1, H, W)
    assert torch.allclose(physics.A(m), formula(torch.polar(m, phase.expand_as(m))), atol=1e-5)
    assert P.check_adjoint(physics, (2, 1, H, W)) < 1e-5


def test_an_operator_stays_what_it_was():
    operator = P.SubsampledFourier(MASK)
    P.ComplexAsChannels(operator)
    assert operator.image_shape == (1, H, W) and not operator.complex_image


def test_what_has_no_complex_images_says_so():
    with pytest.raises(UsageError, match="stack"):
        P.ComplexAsChannels([P.Denoising(), P.Denoising()])
    with pytest.raises(UsageError, match="complex_image=True"):
        P.Magnitudes(P.SubsampledFourier(MASK, image_shape=(3, H, W)), torch.zeros(H, W))


def test_one_function_of_complex_images_has_its_adjoint_made():
    def spectrum(x):
        return torch.fft.fft2((1 + 2j) * x)[..., ::2]

    x = torch.rand(2, 2, 6, 8, dtype=torch.float64)
    both = P.ComplexAsChannels(spectrum, (1, 6, 8))
    assert P.check_adjoint(both, x, tol=1e-12) < 1e-12
    given = P.ComplexAsChannels((spectrum, lambda y: _spectrum_back(y)), (1, 6, 8))
    y = both.A(x)
    torch.testing.assert_close(both.A_adjoint(y), given.A_adjoint(y))
    phase = torch.rand(6, 8)
    magnitudes = P.Magnitudes(spectrum, phase, (1, 6, 8))
    assert P.check_adjoint(magnitudes, x[:, :1], tol=1e-12) < 1e-12


def _spectrum_back(y):
    whole = torch.zeros(*y.shape[:-1], 8, dtype=y.dtype)
    whole[..., ::2] = y
    return (1 - 2j) * 48 * torch.fft.ifft2(whole)
