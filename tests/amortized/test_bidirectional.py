"""The bi-directional INN: its losses one by one, and a parabola with two branches."""

from __future__ import annotations

import math

import pytest
import torch

from innverse.amortized import (
    BidirectionalINN,
    BidirectionalPosterior,
    Posterior,
    fit_bidirectional,
)
from innverse.amortized.bidirectional import Weights
from innverse.errors import InputError, ShapeError, UsageError

QUICK = {"layers": 4, "width": 32, "batch_size": 256, "lr": 3e-3, "progress": False}


def network(d=2, m=1, k=2, width=5):
    torch.manual_seed(0)
    made = BidirectionalINN(d, m, k, flow={"layers": 3, "width": 8}, weights=Weights(), width=width)
    for p in made.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return made


class Shift(torch.nn.Module):
    """Adds t; the rest of a bijection's interface that the network uses."""

    def __init__(self, *t: float):
        super().__init__()
        self.t = torch.nn.Parameter(torch.tensor(t))

    def forward(self, x, c=None):
        return x + self.t, x.new_zeros(len(x))

    def inverse(self, z, c=None):
        return z - self.t, z.new_zeros(len(z))


def test_forward_and_inverse_are_one_map():
    f = network()
    u = torch.randn(4, 2)
    y, z, padding, _ = f(u)
    assert y.shape == (4, 1) and z.shape == (4, 2) and padding.shape == (4, 2)
    back = f.inverse(y, z, padding)
    torch.testing.assert_close(back[:, :2], u, atol=1e-5, rtol=1e-5)
    assert back[:, 2:].abs().max() < 1e-5  # the zeros that went in


def test_latent_loss_gives_no_gradient_to_y():
    """Of a network that only shifts, y + a, z + b: a gets no gradient from the MMD on (y, z)."""

    f = BidirectionalINN(3, 1, 1, flow={"layers": 1, "width": 4}, weights=Weights())
    f.flow.bijection = Shift(0.3, 0.5, 0.0)
    u = torch.randn(64, 3)
    y = u[:, :1] + 1.0
    losses = f.mmd_losses(u, y)
    (g,) = torch.autograd.grad(losses["latent"], f.flow.bijection.t, retain_graph=True)
    assert float(g[0]) == 0 and abs(float(g[1])) > 1e-4
    (g,) = torch.autograd.grad(losses["y"], f.flow.bijection.t, retain_graph=True)
    assert float(g[0]) == pytest.approx(2 * (0.3 - 1.0), abs=1e-4) and float(g[1]) == 0
    (g,) = torch.autograd.grad(losses["backward"], f.flow.bijection.t)
    assert abs(float(g[0])) > 1e-5  # this one does reach y
    # what comes back is y and its noise again
    assert float(losses["again"].detach()) == pytest.approx(f.weights.y_noise**2, rel=0.5)
    assert all(float(v.detach()) >= 0 for v in losses.values())


def test_likelihood_loss_is_the_change_of_variables():
    """Against -log N of the output and the Jacobian by autodiff, up to the constants."""
    f = network(d=3, m=1, k=2, width=3)
    u, y = torch.randn(2, 3), torch.randn(2, 1)
    s = f.weights.y_noise
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda t: torch.cat(f(t[None])[:3], 1)[0], u[i]
        )
        out = torch.cat(f(u[i : i + 1])[:3], 1)[0]
        normal = torch.distributions.Normal
        log_p = normal(y[i], s).log_prob(out[:1]).sum() + normal(0.0, 1.0).log_prob(out[1:]).sum()
        constant = -0.5 * 3 * math.log(2 * math.pi) - math.log(s)
        want = -(log_p - constant + torch.linalg.slogdet(jacobian)[1])
        found = f.likelihood_loss(u[i : i + 1], y[i : i + 1])[0]
        torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-4)


def test_both_branches_of_a_parabola_are_found():
    """x = theta_0^2 + noise: the sign is open, the size is known, theta_1 keeps its prior."""
    g = torch.Generator().manual_seed(0)
    theta = torch.randn(3000, 2, generator=g)
    x = theta[:, :1] ** 2 + 0.02 * torch.randn(3000, 1, generator=g)
    found = fit_bidirectional(theta, x, loss="ml", pad_to=4, max_epochs=50, **QUICK)
    draws = found.sample((2000,), x=torch.tensor([1.0]), generator=g)
    assert draws.shape == (2000, 2)
    assert 0.25 < float((draws[:, 0] > 0).double().mean()) < 0.75
    assert abs(float(draws[:, 0].abs().median()) - 1) < 0.25
    assert 0.6 < float(draws[:, 1].std()) < 1.4
    test = torch.tensor([[0.5, 0.0], [-0.5, 1.0], [1.2, -1.0]])
    assert (found.predict(test)[:, 0] - test[:, 0] ** 2).abs().max() < 0.4
    assert found.sample_batched((3,), x[:5]).shape == (3, 5, 2)


def test_draws_carry_the_noise_of_the_training():
    """With f the identity, u = (y, z): the draws of u_0 given y spread by y_noise, those of the
    padding by padding_noise."""
    f = network(d=3, m=1, k=1, width=3)
    f.flow.bijection = Shift(0.0, 0.0, 0.0)
    draws = f.draw(torch.full((20_000, 1), 2.0), torch.Generator().manual_seed(0))
    w = f.weights
    torch.testing.assert_close(draws.mean(0), torch.tensor([2.0, 0.0, 0.0]), atol=0.03, rtol=0)
    expected = torch.tensor([w.y_noise, 1.0, w.padding_noise])
    torch.testing.assert_close(draws.std(0), expected, atol=0, rtol=0.03)


@pytest.mark.parametrize("couplings", ["affine", "spline"])
def test_saved_network_is_the_same(couplings, tmp_path):
    theta, x = torch.rand(100, 2), torch.randn(100, 3)
    options = {"layers": 2, "width": 8, "max_epochs": 1, "progress": False, "bounds": (0, 1)}
    made = fit_bidirectional(theta, x, loss="ml", couplings=couplings, **options)
    made.save(tmp_path)
    again = BidirectionalPosterior.load(tmp_path)
    assert torch.equal(again.predict(theta), made.predict(theta))
    g = torch.Generator
    draws = [p.sample((5,), x[0], generator=g().manual_seed(0)) for p in (made, again)]
    assert torch.equal(*draws) and again.history == made.history
    with pytest.raises(InputError, match="not describe an innverse-posterior but an innverse-bi"):
        Posterior.load(tmp_path)


def test_mmd_training_learns_what_the_data_tell_and_what_not():
    """x = theta_0 + theta_1: the sum is known, the difference keeps its prior N(0, 2)."""
    g = torch.Generator().manual_seed(0)
    theta = torch.randn(3000, 2, generator=g)
    x = theta.sum(1, keepdim=True)
    found = fit_bidirectional(theta, x, loss="mmd", latent=1, pad_to=0, max_epochs=25, **QUICK)
    draws = found.sample((2000,), x=torch.tensor([1.0]), generator=g)
    assert float((draws.sum(1) - 1).square().mean().sqrt()) < 0.5  # the prior has 1.4
    difference = draws[:, 0] - draws[:, 1]
    assert 0.9 < float(difference.std()) < 2.0
    assert (found.predict(theta[:50]) - x[:50]).abs().mean() < 0.3


def test_bad_input_is_one_line():
    theta, x = torch.randn(100, 2), torch.randn(100, 3)
    for kind, words, options in (
        (UsageError, "mmd or ml", {"loss": "vae"}),
        (UsageError, "affine or spline", {"couplings": "residual"}),
        (ShapeError, "vectors x", {"x": torch.randn(100, 3, 2)}),
    ):
        with pytest.raises(kind, match=words) as caught:
            fit_bidirectional(**{"theta": theta, "x": x} | options, progress=False)
        assert "\n" not in str(caught.value)
    made = fit_bidirectional(theta, x, layers=2, width=8, max_epochs=1, progress=False)
    with pytest.raises(ShapeError, match="one observation"):
        made.sample((2,), x=x)
    with pytest.raises(ShapeError, match="theta must be"):
        made.predict(x)
