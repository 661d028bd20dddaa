"""Bounds on norms hold from above and are tight; products with the Jacobian are exact."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from innverse.nets import LipschitzConv, LipschitzMLP
from innverse.nets.lipschitz import LipSwish, convolution_bound, spectral_bound


@pytest.mark.parametrize("shape", [(5, 5), (40, 7), (7, 40), (64, 64)])
def test_spectral_bound_is_above_and_tight(shape):
    w = torch.randn(20, *shape, dtype=torch.float64)
    w[0] = torch.eye(*shape)  # all singular values equal: the loosest case
    ratio = spectral_bound(w) / torch.linalg.matrix_norm(w, 2)
    assert ratio.min() >= 1 - 1e-12
    assert ratio.max() <= min(shape) ** (1 / 128) + 1e-12
    torch.testing.assert_close(spectral_bound(1e-6 * w), 1e-6 * spectral_bound(w))


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_convolution_bound_holds_for_images_of_any_size(size):
    for _ in range(5):
        w = torch.randn(2, 3, 3, 3, dtype=torch.float64)
        basis = torch.eye(3 * size**2, dtype=torch.float64).view(-1, 3, size, size)
        matrix = F.conv2d(basis, w, padding=1).flatten(1)
        exact = torch.linalg.matrix_norm(matrix, 2)
        bound = convolution_bound(w)
        assert bound >= exact
        if size == 8:
            assert bound < 1.4 * exact


def test_the_bound_between_the_frequencies_is_not_exceeded():
    """A filter whose peak lies between two frequencies of the grid."""
    f = torch.tensor(torch.pi / 16, dtype=torch.float64)
    t = torch.arange(3, dtype=torch.float64) - 1
    wave = torch.stack(((f * t).cos(), (f * t).sin()))
    w = torch.einsum("ok,l->okl", wave, (f * t).cos())[:, None]
    fine = torch.linspace(0, torch.pi, 400, dtype=torch.float64)
    phase = fine[:, None, None, None] * t[:, None] + fine[:, None, None] * t
    symbol = (w[:, 0] * torch.exp(1j * phase)[:, :, None]).sum((-2, -1))
    assert convolution_bound(w) >= symbol.abs().square().sum(-1).sqrt().max()


def test_lipswish_has_slope_at_most_one_and_knows_it():
    a = LipSwish().double()
    h = torch.linspace(-20, 20, 4001, dtype=torch.float64, requires_grad=True)
    for raw in (-3.0, 0.5, 4.0):
        a.raw.data.fill_(raw)
        slope = torch.autograd.grad(a(h).sum(), h)[0]
        assert slope.abs().max() <= 1
        value, given = a.with_slope(h)
        torch.testing.assert_close(given, slope)
        torch.testing.assert_close(value, a(h))


@pytest.mark.parametrize(
    ("net", "x", "c"),
    [
        (LipschitzMLP(4, 16, 3, lipschitz=0.9, condition=2), (4,), (2,)),
        (LipschitzConv(2, 8, lipschitz=0.9, condition=2), (2, 4, 3), (2, 8, 6)),
    ],
)
def test_networks_contract_however_large_their_weights(net, x, c):
    net.double()
    for p in net.parameters():
        p.data.add_(torch.randn_like(p), alpha=5.0)
    x, c = torch.randn(1, *x, dtype=torch.float64), torch.randn(1, *c, dtype=torch.float64)
    d = x.numel()
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, c), x).reshape(d, d)
    assert torch.linalg.matrix_norm(jacobian, 2) <= 0.9
    value, product = net.linearize(x, c)
    torch.testing.assert_close(value, net(x, c))
    v = torch.randn(3, *x.shape, dtype=torch.float64)
    torch.testing.assert_close(product(v).reshape(3, d), v.reshape(3, d) @ jacobian.T)
    assert not torch.allclose(net(x, c), net(x, c + 1))


def test_a_constant_at_or_above_one_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        LipschitzMLP(2, 4, lipschitz=1.0)
