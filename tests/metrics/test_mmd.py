"""MMD against its closed form for normals."""

from __future__ import annotations

import pytest
import torch

from innverse.errors import InputError, ShapeError
from innverse.metrics.mmd import gaussian, inverse_multiquadratic, mmd2, mmd2_large


def expected_kernel(h: float, variance: float, shift2: float, d: int) -> float:
    """E exp(-|u|^2 / (2 h^2)) for u ~ N(m, variance I), |m|^2 = shift2."""
    total = h * h + variance
    return (h * h / total) ** (d / 2) * float(torch.exp(torch.tensor(-0.5 * shift2 / total)))


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.7, 1.0), (0.3, 1.6)])
def test_unbiased_against_the_closed_form_for_normals(shift, scale):
    """The mean of 400 estimates from 60 samples each lies within 4 standard errors."""
    d, h, n = 3, 1.3, 60
    g = torch.Generator().manual_seed(0)
    values = []
    for _ in range(400):
        x = torch.randn(n, d, generator=g)
        y = shift + scale * torch.randn(n, d, generator=g)
        values.append(mmd2(x, y, gaussian([h])))
    values = torch.stack(values)
    truth = (
        expected_kernel(h, 2.0, 0.0, d)
        + expected_kernel(h, 2 * scale**2, 0.0, d)
        - 2 * expected_kernel(h, 1 + scale**2, d * shift**2, d)
    )
    assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / 20
    assert float(values.std()) < 0.05


def test_biased_form_is_the_norm_of_a_difference():
    x = torch.randn(40, 2, dtype=torch.float64)
    assert abs(float(mmd2(x, x, unbiased=False))) < 1e-12
    y = torch.randn(30, 2, dtype=torch.float64) + 1
    n, m = len(x), len(y)
    biased, unbiased = (float(mmd2(x, y, unbiased=u)) for u in (False, True))
    assert biased > unbiased
    # written out pair by pair
    k = inverse_multiquadratic()
    both = torch.cat((x, y))
    d2 = (both[:, None] - both[None]).square().sum(2)
    w = torch.cat((torch.full((n,), 1 / n, dtype=x.dtype), torch.full((m,), -1 / m, dtype=x.dtype)))
    assert abs(float(w @ k(d2) @ w) - biased) < 1e-12


def test_kernels_are_mean_of_their_widths():
    d2 = torch.tensor([0.0, 0.5, 4.0])
    want = (1 / (1 + d2) + 4 / (4 + d2)) / 2
    torch.testing.assert_close(inverse_multiquadratic([1.0, 2.0])(d2), want)


def test_blocks_give_the_same_value():
    x, y = torch.randn(300, 2), torch.randn(170, 2) * 1.2 + 5
    assert abs(mmd2_large(x, y, chunk=64) - float(mmd2(x.double(), y.double()))) < 1e-6


def test_gradient_pulls_samples_together():
    x = torch.randn(100, 2)
    y = (torch.randn(100, 2) + 3).requires_grad_()
    mmd2(x, y).backward()
    assert (y.grad.sum(0) > 0).all()  # downhill is towards x
    eps = torch.zeros_like(y)
    eps[3, 1] = 1e-4
    a, b = (float(mmd2(x.double(), (y + s * eps).detach().double())) for s in (1, -1))
    assert abs((a - b) / 2e-4 - float(y.grad[3, 1])) < 1e-4


def test_bad_input_is_one_line():
    x = torch.randn(5, 2)
    with pytest.raises(ShapeError, match="samples"):
        mmd2(x, torch.randn(5, 3))
    with pytest.raises(InputError, match="2 samples"):
        mmd2(x, x[:1])
    with pytest.raises(InputError, match="widths"):
        gaussian([0.0])
