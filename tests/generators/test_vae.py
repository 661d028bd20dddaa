"""The bounds of a VAE against a model whose likelihood has a formula, and what its methods promise."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from innverse import generators
from innverse.errors import ShapeError, UsageError
from innverse.generators import VAE

SHAPE, S = (1, 2, 3), 0.3


class _Encoder(nn.Module):
    """q(z | x) = N(A (x - b), diag(sd)^2)."""

    def __init__(self, a, b, sd):
        super().__init__()
        self.a, self.b, self.sd = a, b, sd

    def forward(self, x):
        mean = (x.flatten(1) - self.b) @ self.a.T
        # undoes the bound that keeps log-scales within 8
        log_sd = self.sd.log() / (1 - (self.sd.log() / 8).square()).sqrt()
        return torch.cat((mean, log_sd.expand_as(mean)), 1)


class _Decoder(nn.Module):
    """G(z) = W z + b."""

    def __init__(self, w, b):
        super().__init__()
        self.w, self.b = w, b

    def forward(self, z):
        return (z @ self.w.T + self.b).view(-1, *SHAPE)


@pytest.fixture
def linear():
    """(vae, x, exact log p(x), posterior means, posterior covariance) in float64; q is wrong."""
    w, b = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    cov = torch.linalg.inv(torch.eye(2) + w.T @ w / S**2)
    a = cov @ w.T / S**2
    sd = cov.diagonal().sqrt() * torch.tensor([1.3, 0.7])
    encoder = _Encoder(a + 0.02 * torch.randn_like(a), b, sd)
    vae = VAE(encoder, _Decoder(w, b), SHAPE, 2, scale=S).double()
    p = MultivariateNormal(b, w @ w.T + S**2 * torch.eye(6))
    x = p.sample((5,))
    return vae, x.view(5, *SHAPE), p.log_prob(x), (x - b) @ a.T, cov


def test_elbo_is_the_likelihood_less_the_divergence(linear):
    vae, x, exact, mean, cov = linear
    q_mean, q_log_sd = vae.posterior(x)
    q = MultivariateNormal(q_mean, torch.diag_embed((2 * q_log_sd).exp()))
    formula = exact - kl_divergence(q, MultivariateNormal(mean, cov))
    draws = torch.stack([vae.elbo(x) for _ in range(4000)])
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - formula).abs() < 4 * error).all()
    single = torch.stack([vae.log_prob_bound(x, 1) for _ in range(4000)])
    error = single.std(0) / math.sqrt(len(single))
    assert ((single.mean(0) - formula).abs() < 4 * error).all()


def test_the_bound_rises_with_samples_to_the_likelihood(linear):
    vae, x, exact, *_ = linear
    bounds = []
    for samples, repeats in ((1, 4000), (4, 2000), (32, 500), (1000, 40)):
        draws = torch.stack([vae.log_prob_bound(x, samples) for _ in range(repeats)])
        bounds.append(draws.mean(0).mean())
    assert all(a < b for a, b in zip(bounds, bounds[1:], strict=False))
    assert bounds[0] < exact.mean() - 0.05
    assert abs(bounds[-1] - exact.mean()) < 0.02


def test_with_the_true_posterior_every_bound_is_exact():
    w = torch.tensor([[1.0, 0], [2, 0], [0, 1], [0, 3], [0, 0], [0, 0]], dtype=torch.float64)
    b = torch.zeros(6, dtype=torch.float64)
    cov = torch.linalg.inv(torch.eye(2) + w.T @ w / S**2)  # diagonal, as q is
    vae = VAE(_Encoder(cov @ w.T / S**2, b, cov.diagonal().sqrt()), _Decoder(w, b), SHAPE, 2,
              scale=S).double()  # fmt: skip
    p = MultivariateNormal(b, w @ w.T + S**2 * torch.eye(6))
    x = p.sample((3,))
    for samples in (1, 7):
        bound = vae.log_prob_bound(x.view(3, *SHAPE), samples)
        torch.testing.assert_close(bound, p.log_prob(x), rtol=0, atol=1e-6)


def test_chunks_do_not_change_the_bound(linear, monkeypatch):
    vae, x, *_ = linear
    # torch draws normal numbers 16 at a time, so only such chunks see the same ones
    draw = lambda: vae.log_prob_bound(x, 48, generator=torch.Generator().manual_seed(1))  # noqa: E731
    whole = draw()
    # `innverse.generators.vae` is the builder; the module of that name lies in sys.modules
    module = importlib.import_module("innverse.generators.vae")
    monkeypatch.setattr(module, "_CHUNK_NUMBERS", 16 * x.numel())
    torch.testing.assert_close(draw(), whole)


def test_bits_per_dim_has_the_convention_of_flows():
    vae = generators.build("vae", (1, 8, 8), latent=2, width=8).eval()
    vae.log_scale.data.fill_(math.log(0.25))
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    bits = vae.bits_per_dim(images, generator=torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(0)
    x = (images.float() + torch.rand(images.shape, generator=g)) / 256
    nats = vae.log_prob_bound(x, generator=g)
    torch.testing.assert_close(bits, 8 - nats / (64 * math.log(2)))
    # a decoder that ignores z, and q(z | x) = p(z): the bound is the density around one image
    vae.decoder.dense.weight.data.zero_()
    vae.encoder.dense.weight.data.zero_()
    vae.encoder.dense.bias.data.zero_()
    around = Normal(vae.decode(torch.zeros(3, 2)), 0.25).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(vae.log_prob_bound(x, 5), around)


def test_codes_and_reconstructions():
    vae = generators.build("vae", (3, 16, 16), latent=5, width=8).eval()
    x = torch.rand(4, 3, 16, 16)
    z = vae.encode(x)
    assert z.shape == (4, *vae.latent_shape) == (4, 5)
    torch.testing.assert_close(vae.reconstruct(x), vae.decode(z))
    g = torch.Generator().manual_seed(0)
    draws = torch.stack([vae.encode(x, sampled=True, generator=g) for _ in range(3000)])
    mean, log_sd = vae.posterior(x)
    torch.testing.assert_close(draws.std(0), log_sd.exp(), rtol=0.1, atol=1e-3)
    assert ((draws.mean(0) - mean).abs() < 5 * log_sd.exp() / math.sqrt(3000)).all()


def test_beta_weighs_the_divergence_in_training_alone():
    plain, weighted = (
        generators.build("vae", (1, 8, 8), latent=2, width=8, beta=beta) for beta in (1.0, 5.0)
    )
    weighted.load_state_dict(plain.state_dict())
    x = torch.rand(4, 1, 8, 8)
    mean, log_sd = plain.posterior(x)
    kl = kl_divergence(Normal(mean, log_sd.exp()), Normal(0.0, 1.0)).sum(1).mean() / 64
    torch.manual_seed(3)
    expected = plain.training_loss(x) + 4 * kl
    torch.manual_seed(3)
    torch.testing.assert_close(weighted.training_loss(x), expected)
    bounds = [vae.elbo(x, generator=torch.Generator().manual_seed(0)) for vae in (plain, weighted)]
    assert torch.equal(*bounds)


def test_scale_is_learned_or_fixed():
    for learn in (True, False):
        vae = generators.build("vae", (1, 8, 8), latent=2, width=8, scale=0.2, learn_scale=learn)
        vae.training_loss(torch.rand(4, 1, 8, 8)).backward()
        assert math.isclose(vae.scale, 0.2, rel_tol=1e-6)
        assert vae.log_scale.requires_grad is learn
        if learn:
            assert vae.log_scale.grad.abs() > 0


def test_samples_with_the_noise_of_the_density():
    vae = generators.build("vae", (1, 8, 8), latent=2, width=8, scale=0.2).eval()
    draw = lambda **o: vae.sample(500, generator=torch.Generator().manual_seed(0), **o)  # noqa: E731
    noise = draw(noisy=True) - draw()
    assert abs(noise.std().item() - 0.2) < 0.005


def test_wrong_use_is_one_clear_line():
    vae = generators.build("vae", (1, 8, 8), latent=2, width=8)
    x = torch.rand(2, 1, 8, 8)
    with pytest.raises(ShapeError, match=r"takes \(B, 1, 8, 8\), got \(2, 1, 9, 9\)"):
        vae.encode(torch.rand(2, 1, 9, 9))
    with pytest.raises(UsageError, match="at least 1"):
        vae.log_prob_bound(x, 0)
    with pytest.raises(UsageError, match="scale=0"):
        generators.build("vae", (1, 8, 8), scale=0)
    with pytest.raises(UsageError, match="beta=0.5"):
        generators.build("vae", (1, 8, 8), beta=0.5)
