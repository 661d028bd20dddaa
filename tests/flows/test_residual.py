"""Residual flows as densities of vectors and images."""

from __future__ import annotations

import math

import pytest
import torch

from innverse import flows
from innverse.bijections import check_bijection, initialize
from innverse.errors import UsageError


def moved(shape, amount=0.1, **options):
    torch.manual_seed(0)
    flow = flows.build("residual", shape, **options)
    for p in flow.parameters():
        p.data.add_(torch.randn_like(p), alpha=amount)
    return flow


def test_density_in_two_dimensions_integrates_to_one():
    flow = moved((2,), 0.3, layers=4, hidden=16).double()
    axis = torch.linspace(-12, 12, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = flow.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(float(mass) - 1) < 1e-3


@pytest.mark.parametrize(("shape", "size"), [((3,), (3,)), ((1, 4, 4), (1, 4, 4))])
def test_log_prob_is_the_change_of_variables(shape, size):
    options = {"levels": 1} if len(shape) == 3 else {}
    flow = moved(shape, layers=2, hidden=8, noise=(0.01, 0.4), **options).double()
    x, sigma = torch.rand(2, *size, dtype=torch.float64), torch.tensor([0.05, 0.3]).double()
    for i in range(2):
        item, c = x[i : i + 1], sigma[i : i + 1]
        j = torch.autograd.functional.jacobian(lambda v, c=c: flow.encode(v, c), item)
        d = item.numel()
        z = flow.encode(item, c)
        expected = -0.5 * z.square().sum() - 0.5 * d * math.log(2 * math.pi)
        expected = expected + torch.linalg.slogdet(j.reshape(d, d))[1]
        assert abs(flow.log_prob(item, c) - expected) < 1e-10


def test_the_bijection_keeps_the_contract():
    flow = moved((1, 4, 4), layers=1, hidden=4, levels=2, lipschitz=0.5)
    check_bijection(flow.bijection, torch.rand(2, 1, 4, 4))


def test_series_of_an_image_is_close_to_the_determinant():
    """Above ``exact_dims`` the evaluation is the truncated series; here its error is measured."""
    flow = moved((1, 8, 8), layers=2, hidden=16, levels=2, terms=24, probes=256).eval()
    x = torch.rand(3, 1, 8, 8)
    initialize(flow, x)
    with torch.no_grad():
        given = flow.log_prob(x)
        torch.testing.assert_close(flow.log_prob(x), given, rtol=0, atol=0)
        torch.testing.assert_close(flow.decode(flow.encode(x)), x, rtol=0, atol=1e-4)
        for layer in flow.modules():
            if hasattr(layer, "exact_dims"):
                layer.logdet = "exact"
        exact = flow.log_prob(x)
    assert (given - exact).abs().max() < 0.02 * 64  # nats, 0.03 bits per dimension


def test_training_lowers_the_loss_of_a_ring_and_samples_land_on_it():
    torch.manual_seed(0)
    angle = 2 * math.pi * torch.rand(4096)
    radius = 2 + 0.1 * torch.randn(4096)
    data = torch.stack((radius * angle.cos(), radius * angle.sin()), 1)
    flow = flows.build("residual", (2,), layers=6, hidden=48)
    initialize(flow, data)
    optimizer = torch.optim.Adam(flow.parameters(), 5e-3)
    losses = []
    for step in range(100):
        x = data[step % 16 * 256 :][:256]
        loss = -flow.log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < losses[0] - 0.5
    radii = flow.eval().sample(500, generator=torch.Generator().manual_seed(0)).norm(dim=1)
    assert 1.6 < radii.median() < 2.4 and radii.std() < 0.8


def test_images_train_with_the_estimator():
    torch.manual_seed(0)
    flow = flows.build("residual", (1, 8, 8), layers=2, hidden=16, levels=2)
    x = torch.rand(32, 1, 8, 8) * torch.linspace(0, 1, 8)
    initialize(flow, x)
    before = flow.eval().log_prob(x).mean().item()
    optimizer = torch.optim.Adam(flow.train().parameters(), 3e-3)
    for _ in range(30):
        loss = -flow.log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert flow.eval().log_prob(x).mean().item() > before + 10


def test_other_shapes_are_refused():
    with pytest.raises(UsageError, match="vectors"):
        flows.build("residual", (3, 4))
