"""Free-form injective flows: closed forms where encoder and decoder are linear."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from innverse import generators
from innverse.errors import UsageError
from innverse.generators import FreeForm
from innverse.train import load_config, train

SHAPE = (1, 2, 3)


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    decoder = nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, SHAPE))
    return FreeForm(encoder, decoder, SHAPE, 2, spread=0.3).double()


def plane(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points of a plane in R^6, their coordinates on it, and the log-density of these."""
    g = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 2, generator=g).double())[0]
    cov = torch.tensor([[2.0, 0.6], [0.6, 0.5]]).double()
    normal = MultivariateNormal(torch.tensor([0.5, -1.0]).double(), cov)
    u = torch.randn(n, 2, generator=g).double() @ torch.linalg.cholesky(cov).T + normal.mean
    return (u @ basis.T).view(-1, *SHAPE), u, normal.log_prob(u)


def test_density_is_that_of_a_linear_decoder(model):
    z = torch.randn(5, 2).double()
    x = model.decode(z)
    weight = model.decoder[0].weight
    model.encoder[1].weight.data = torch.linalg.pinv(weight).detach()
    model.encoder[1].bias.data = -(torch.linalg.pinv(weight) @ model.decoder[0].bias).detach()
    on_it, distance = model.project(x)
    torch.testing.assert_close(on_it, x)
    assert float(distance.detach().max()) < 1e-8
    log_n = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
    expected = log_n - 0.5 * torch.linalg.slogdet(weight.T @ weight)[1]
    torch.testing.assert_close(model.log_prob(x), expected, atol=1e-8, rtol=0)


def test_the_surrogate_has_the_gradient_of_the_volume(model):
    """Over all axes v v^T adds up to I: d/df of 1/2 log det(f f^T), where g is the pseudo-inverse."""
    f = model.encoder[1].weight
    model.decoder[0].weight.data = torch.linalg.pinv(f).detach()
    (expected,) = torch.autograd.grad(0.5 * torch.linalg.slogdet(f @ f.T)[1], f)
    x = torch.randn(1, *SHAPE).double().repeat(2, 1, 1, 1)
    surrogate = model.surrogate(x, model.encode(x), 2**0.5 * torch.eye(2).double()).mean()
    torch.testing.assert_close(torch.autograd.grad(surrogate, f)[0], expected)


def test_training_finds_a_plane_and_its_density(model):
    x, _, expected = plane(1000)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    steps = 600
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - k / steps)
        optimizer.zero_grad()
        model.training_loss(x).backward()
        optimizer.step()
    with torch.no_grad():
        assert float(model.project(x)[1].square().mean()) < 1e-3
        assert float((model.log_prob(x) - expected).abs().mean()) < 0.15


def test_the_nearest_point_is_no_farther(model):
    x = torch.randn(4, *SHAPE).double()
    assert bool((model.project(x, 30)[1] <= model.project(x)[1]).all())


def test_trained_by_the_trainer(tmp_path):
    settings = {
        "data.path": "digits", "model.name": "freeform", "model.latent": 4, "model.width": 8,
        "train.steps": 2, "train.batch_size": 8, "train.eval_images": 8,
    }  # fmt: skip
    outcome = train(load_config(overrides=settings), tmp_path / "run", quiet=True)
    assert outcome.held_out.keys() == {"reconstruction_psnr", "code_nats"}


def test_what_is_wrong_is_said():
    with pytest.raises(UsageError, match="spread=0"):
        generators.build("freeform", (1, 8, 8), spread=0.0)
