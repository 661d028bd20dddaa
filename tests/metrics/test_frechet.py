from __future__ import annotations

import pytest
import torch

from innverse.errors import InputError, ShapeError
from innverse.metrics import frechet


def sample_of(mean, root, n=400):
    """Samples whose mean and covariance are exactly ``mean`` and root root^T."""
    x = torch.randn(n, len(mean), dtype=torch.float64)
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False).T
    return white @ root.T + mean


def test_closed_form_for_commuting_covariances():
    m, s = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([1.0, 2.0, 0.3]).double()
    a = sample_of(torch.zeros(3).double(), torch.eye(3).double())
    b = sample_of(m, s.diag())
    assert frechet(a, b) == pytest.approx(float(m.square().sum() + (s - 1).square().sum()), 1e-6)


def test_it_does_not_depend_on_the_coordinates_or_the_order():
    a, b = torch.randn(50, 4).double(), torch.randn(60, 4).double() * 2 + 1
    q = torch.linalg.qr(torch.randn(4, 4).double())[0]
    assert frechet(a @ q, b @ q) == pytest.approx(frechet(a, b), 1e-8)
    assert frechet(b, a) == pytest.approx(frechet(a, b), 1e-8)
    assert frechet(a, a) == pytest.approx(0, abs=1e-8)


def test_fewer_samples_than_features_are_fine():
    a, b = torch.randn(5, 20), torch.randn(7, 20) + 3
    assert 9 * 20 * 0.3 < frechet(a, b) < 9 * 20 * 3


def test_refuses_what_does_not_fit():
    with pytest.raises(ShapeError):
        frechet(torch.randn(5, 2), torch.randn(5, 3))
    with pytest.raises(InputError):
        frechet(torch.randn(1, 2), torch.randn(5, 2))
