"""The Lasso: bases are orthonormal, closed forms are met, items do not see each other."""

from __future__ import annotations

import pytest
import torch

from innverse.errors import ShapeError, UsageError
from innverse.physics import CompressedSensing, Denoising, Inpainting
from innverse.solvers.baselines import BASES, Basis, lasso


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("size", [(16, 24), (8, 8), (7, 12)])
def test_bases_are_orthonormal(name, size):
    basis = Basis(name)
    x, w = (torch.randn(2, 3, *size, dtype=torch.float64) for _ in range(2))
    c = basis.analyse(x)
    assert not torch.allclose(c, x) or size == (7, 12)
    torch.testing.assert_close(basis.synthesise(c), x)
    torch.testing.assert_close(c.square().sum(), x.square().sum())
    torch.testing.assert_close((basis.analyse(w) * x).sum(), (w * basis.synthesise(x)).sum())


def test_smooth_pictures_have_few_wavelets():
    ramp = torch.linspace(0, 1, 32, dtype=torch.float64).expand(1, 1, 32, 32)
    c = Basis("db2", coarsest=32).analyse(ramp)
    inside = c[..., :15, 16:31]  # two vanishing moments: a ramp has no details but at the seam
    assert inside.abs().max() < 1e-12


@pytest.mark.parametrize("name", BASES)
def test_denoising_is_soft_thresholding(name):
    y = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    lam = torch.tensor([0.05, 0.2], dtype=torch.float64)
    c = Basis(name).analyse(y)
    weight = lam.view(-1, 1, 1, 1)
    expected = Basis(name).synthesise(c.sign() * (c.abs() - weight).clamp_min(0))
    found = lasso(y, Denoising(image_shape=(1, 16, 16)), lam, name, tol=1e-9)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_few_coefficients_are_recovered_from_few_measurements():
    generator = torch.Generator().manual_seed(0)
    c = torch.zeros(1, 1, 16, 16)
    c.view(-1)[torch.randperm(256, generator=generator)[:8]] = 3.0
    x = Basis("dct").synthesise(c)
    physics = CompressedSensing(100, (1, 16, 16), seed=1)
    found = lasso(physics.A(x), physics, 1e-3, "dct", 2000, tol=1e-7)
    assert (found - x).norm() / x.norm() < 0.01
    worse = lasso(physics.A(x), physics, 1e-3, "haar", 2000)
    assert (worse - x).norm() / x.norm() > 0.1


def test_items_are_independent():
    physics = Inpainting.random((1, 16, 16), 0.5, torch.Generator().manual_seed(0))
    y = physics.A(torch.rand(3, 1, 16, 16, dtype=torch.float64))
    lam = torch.tensor([0.01, 0.3, 0.05], dtype=torch.float64)
    together = lasso(y, physics, lam, "db2")
    for i in range(3):
        alone = lasso(y[i : i + 1], physics, float(lam[i]), "db2")
        torch.testing.assert_close(together[i : i + 1], alone)


def test_bad_arguments():
    y, physics = torch.rand(2, 1, 8, 8), Denoising(image_shape=(1, 8, 8))
    with pytest.raises(UsageError, match="must be >= 0"):
        lasso(y, physics, -1.0)
    with pytest.raises(UsageError, match="choose one of dct, haar, db2"):
        lasso(y, physics, 0.1, "fourier")
    with pytest.raises(ShapeError, match="3 weights for a batch of 2"):
        lasso(y, physics, torch.ones(3))
