"""Phase retrieval: magnitudes alone tell an image."""

from __future__ import annotations

import pytest
import torch

import innverse
from innverse import physics as P
from innverse.errors import InputError, ShapeError, UsageError
from innverse.physics.levenberg import levenberg_marquardt

SHAPE = (1, 12, 10)


def _image():
    return torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_it_measures_magnitudes():
    x, coded = _image(), P.CodedDiffraction.random(SHAPE, 3, seed=1)
    y = P.PhaseRetrieval(coded).A(x)
    assert torch.allclose(y, coded.A(x).abs()) and torch.allclose(y, P.PhaseRetrieval(coded).A(-x))
    masks = torch.view_as_complex(coded.masks.double())
    far = torch.fft.fft2(masks * x, norm="ortho")  # (B, L, H, W) of one channel
    assert torch.allclose(y, far.abs())
    # unit magnitudes keep the energy, once for each mask
    assert torch.allclose(y.square().sum((1, 2, 3)), 3 * x.square().sum((1, 2, 3)))


def test_four_patterns_tell_the_image_without_a_prior():
    x = _image()
    physics = P.PhaseRetrieval(P.CodedDiffraction.random(SHAPE, 4))
    assert torch.allclose(physics.A_dagger(physics.A(x)), x, atol=1e-3)


def test_levenberg_marquardt_ends_where_the_gradient_is_zero():
    physics = P.Nonlinear(lambda v: torch.sinh(v) + 0.5 * v.roll(1, -1) ** 2, SHAPE)
    y = physics.A(_image()) + 0.1
    x0, rho = torch.full_like(_image(), 0.5), torch.tensor([0.1, 2.0])
    x = levenberg_marquardt(physics, y, x0, rho, steps=60)
    pull = rho.view(-1, 1, 1, 1) * (x - x0)
    gradient = physics.A_vjp(x, physics.A(x) - y) + pull
    assert float(gradient.norm()) < 1e-2 * float(physics.A_vjp(x0, physics.A(x0) - y).norm())
    alone = levenberg_marquardt(physics, y[1:], x0[1:], rho[1:], steps=60)
    assert torch.allclose(alone, x[1:], atol=1e-6)


def test_methods_that_take_any_operator_solve_it():
    x = _image().float()
    physics = P.PhaseRetrieval(P.CodedDiffraction.random(SHAPE, 4), noise=0.01)
    y = physics(x, torch.Generator().manual_seed(0))
    found = innverse.solve(y, physics, steps=60, channels=8, doublings=1)
    assert found.method == "deep_decoder" and "not linear" in found.reason
    with pytest.raises(UsageError, match="needs a linear operator: latent, map, posterior"):
        innverse.solve(y, physics, method="tv")


def test_what_is_wrong_is_said_in_one_line():
    for make, error, words in (
        (lambda: P.CodedDiffraction(torch.ones(4, 4)), ShapeError, r"\(L, H, W\)"),
        (lambda: P.CodedDiffraction(torch.zeros(1, 4, 4)), InputError, "zero everywhere"),
        (lambda: P.PhaseRetrieval(lambda x: x), UsageError, "image_shape"),
        (lambda: P.PhaseRetrieval(torch.ones(3, 4), (1, 3, 3)), ShapeError, "does not fit"),
    ):
        with pytest.raises(error, match=words) as e:
            make()
        assert "\n" not in str(e.value)
    counted = P.build("phase_retrieval", SHAPE, gain=0.1)
    with pytest.raises(UsageError, match="its noise must not depend on the signal"):
        innverse.solve(counted.A(torch.rand(1, *SHAPE)), counted, method="deep_decoder")
    wrong = P.PhaseRetrieval((torch.fft.fft2, torch.fft.ifft2), SHAPE, noise=0.1)
    y = torch.rand(1, *SHAPE)
    with pytest.raises(InputError, match="adjoint of .* is wrong"):
        innverse.solve(y, wrong, method="deep_decoder")
