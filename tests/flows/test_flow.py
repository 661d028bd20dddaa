"""Flows as users meet them: densities, codes, samples, sizes, files."""

from __future__ import annotations

import math

import pytest
import torch

from innverse import flows
from innverse.bijections import check_bijection, initialize
from innverse.errors import InputError, ShapeError, UsageError
from innverse.flows import Flow
from innverse.flows.base import standard_normal


def small_glow(shape=(1, 8, 8), **options):
    torch.manual_seed(0)
    options = {"levels": 2, "steps": 2, "hidden": 8, "activation": "silu"} | options
    flow = flows.build("glow", shape, **options)
    for p in flow.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    return flow.eval()


@pytest.mark.parametrize("squeeze", ["pixels", "haar"])
def test_glow_keeps_the_contract_of_a_bijection(squeeze):
    flow = small_glow((1, 4, 4), squeeze=squeeze)
    check_bijection(flow.bijection, torch.rand(2, 1, 4, 4))


def test_noise_conditional_glow_keeps_the_contract():
    flow = small_glow((1, 4, 4), noise=(0.01, 0.4), how="film", mix="swap")
    c = flow.noise(torch.tensor([0.02, 0.3])).detach()
    check_bijection(flow.bijection, torch.rand(2, 1, 4, 4), c)


@pytest.mark.parametrize("mix", ["permute", "lu", "swap"])
@pytest.mark.parametrize("name", ["realnvp", "nsf"])
def test_flows_of_vectors_keep_the_contract(name, mix):
    torch.manual_seed(0)
    flow = flows.build(name, (5,), layers=3, width=16, condition=2, mix=mix, norm=mix != "swap")
    check_bijection(flow.bijection, torch.randn(3, 5), torch.randn(3, 2))


def test_samples_follow_the_density():
    """E_p[log p] estimated on samples equals the quadrature of p log p."""
    torch.manual_seed(0)
    flow = flows.build("realnvp", (2,), layers=2, width=8).double()
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    axis = torch.linspace(-12, 12, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        log_p = flow.log_prob(grid)
        entropy = -(log_p.exp() * log_p).sum() * (axis[1] - axis[0]) ** 2
        drawn = flow.log_prob(flow.sample(20000, generator=torch.Generator().manual_seed(0)))
    assert abs(-drawn.mean() - entropy) < 5 * drawn.std() / math.sqrt(len(drawn))


def test_encode_decode_any_size():
    flow = small_glow()
    x = torch.rand(2, 1, 12, 20)
    torch.testing.assert_close(flow.decode(flow.encode(x)), x, rtol=1e-4, atol=1e-5)
    odd = torch.rand(1, 1, 9, 11)
    assert flow.encode(odd).shape == (1, 1, 12, 12)
    assert flow.log_prob(odd).shape == (1,)
    assert flow.sample(3, size=(16, 8)).shape == (3, 1, 16, 8)


def test_temperature_zero_is_the_mode_of_the_latent():
    flow = small_glow()
    a, b = flow.sample(2, temperature=0.0)
    torch.testing.assert_close(a, b)


def test_bits_per_dim_of_uniform_noise_is_eight():
    """The identity of log p: for p uniform on [0, 1] the convention gives 8 bits."""

    class Uniform(torch.nn.Module):
        def forward(self, x, c=None):
            z = torch.zeros_like(x)
            return z, torch.full((len(x),), 0.5 * math.log(2 * math.pi) * x[0].numel())

    flow = Flow(Uniform(), (1, 4, 4))
    bits = flow.bits_per_dim(torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8))
    torch.testing.assert_close(bits, torch.full((2,), 8.0))


def test_interpolation_ends_at_the_images():
    flow = small_glow()
    a, b = torch.rand(2, 1, 8, 8)
    path = flow.interpolate(a, b, 5)
    assert path.shape == (5, 1, 8, 8)
    torch.testing.assert_close(path[0], a, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(path[-1], b, rtol=1e-3, atol=1e-4)


def test_dist_is_a_torch_distribution():
    flow = flows.build("realnvp", (3,), layers=2, width=8, condition=2)
    c = torch.randn(4, 2)
    d = flow.dist(c)
    assert isinstance(d, torch.distributions.Distribution)
    assert d.batch_shape == (4,) and d.event_shape == (3,)
    x = d.rsample((5,))
    assert x.shape == (5, 4, 3) and x.requires_grad
    log_p = d.log_prob(x)
    assert log_p.shape == (5, 4)
    torch.testing.assert_close(log_p[2, 1], flow.log_prob(x[2, 1:2], c[1:2])[0])
    assert d.log_prob(torch.zeros(3)).shape == (4,)


def test_fixed_condition_view():
    flow = small_glow(noise=(0.01, 0.4))
    x = torch.rand(2, 1, 8, 8)
    view = flow.at(0.1)
    torch.testing.assert_close(view.log_prob(x), flow.log_prob(x, 0.1))
    torch.testing.assert_close(view.decode(view.encode(x)), x, rtol=1e-3, atol=1e-4)
    assert view.noise_range == (0.01, 0.4)


def test_denoiser_is_tweedie_and_forgets_the_grid():
    """One view is y + sigma^2 score; averaging views commutes with nothing but stays close."""
    flow = small_glow(noise=(0.01, 0.4))
    y = torch.rand(1, 1, 10, 13)
    sigma = 0.1
    x = torch.nn.functional.pad(y, (0, 3, 0, 2), mode="reflect").requires_grad_()
    score = torch.autograd.grad(flow.log_prob(x, sigma).sum(), x)[0]
    torch.testing.assert_close(
        flow.denoise(y, sigma), (x + sigma**2 * score).detach()[..., :10, :13]
    )
    for views in (4, 16):
        assert flow.denoise(y, sigma, views).shape == y.shape


@pytest.mark.parametrize(
    "symmetries, turned, transposed",
    [((), 1, 0), (("mirror",), 2, 0), (("transpose",), 1, 1), (("mirror", "transpose"), 4, 4)],
)
def test_views_are_turned_only_as_training_turned_images(
    monkeypatch, symmetries, turned, transposed
):
    """A portrait is not asked for upside down; the ramp shows how each view was turned."""
    flow = small_glow(noise=(0.01, 0.4))
    flow.symmetries = symmetries
    seen = set()

    def score(x, sigma):
        down, right = (x[0, 0].diff(dim=d).sum().round().item() for d in (0, 1))
        seen.add((abs(down) < abs(right), down > 0, right > 0))
        return torch.zeros_like(x)

    monkeypatch.setattr(flow, "score", score)
    y = torch.arange(16.0)[:, None] + 10 * torch.arange(16.0)
    torch.testing.assert_close(flow.denoise(y[None, None], 0.1, 16)[0, 0], y)
    assert len([s for s in seen if s[0]]) == turned, "columns rise faster than rows"
    assert len([s for s in seen if not s[0]]) == transposed


def test_denoising_under_a_gaussian_density_is_the_wiener_filter():
    """For p(x) = N(0, I s^2) the minimum-mean-square estimate is y s^2 / (s^2 + sigma^2)."""
    from innverse.bijections import Bijection

    class Whiten(Bijection):
        scale = (0.3**2 + 0.1**2) ** -0.5

        def forward(self, x, c=None):
            n = x[0].numel()
            return x * self.scale, x.new_full((len(x),), n * math.log(self.scale))

    flow = Flow(Whiten(), (1, 8, 8), noise=(0.01, 0.4))
    y = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(flow.denoise(y, 0.1, 8), y * 0.09 / 0.10, rtol=1e-5, atol=1e-6)


def test_errors_name_the_fault():
    with pytest.raises(UsageError, match="no flow is called 'glov'"):
        flows.build("glov", (1, 8, 8))
    with pytest.raises(UsageError, match="did you mean 'hidden'"):
        flows.build("glow", (1, 8, 8), hiden=8)
    with pytest.raises(UsageError, match="for images"):
        flows.build("glow", (8,))
    flow = small_glow(noise=(0.01, 0.4))
    with pytest.raises(InputError, match="pass c=sigma"):
        flow.log_prob(torch.rand(1, 1, 8, 8))
    with pytest.raises(ShapeError, match=r"takes \(B, 1, H, W\), got \(1, 3, 8, 8\)"):
        flow.log_prob(torch.rand(1, 3, 8, 8), 0.1)
    with pytest.raises(InputError, match="outside"):
        flow.denoise(torch.rand(1, 1, 8, 8), 0.9)
    with pytest.raises(UsageError, match="noise leads out of it"):
        flows.build("glow", (1, 8, 8), gaussianize=256, noise=(0.01, 0.4))
    with pytest.raises(UsageError, match="logit and gaussianize do the same work"):
        flows.build("realnvp", (1, 8, 8), gaussianize=256, logit=0.05)
    with pytest.raises(InputError, match="takes no condition"):
        small_glow().log_prob(torch.rand(1, 1, 8, 8), torch.zeros(1, 2))


def test_training_step_lowers_the_loss():
    torch.manual_seed(0)
    flow = flows.build("glow", (1, 8, 8), levels=2, steps=2, hidden=16)
    x = torch.rand(32, 1, 8, 8) * torch.linspace(0, 1, 8)
    initialize(flow, x)
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = -flow.log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 10


def test_truncated_draws_follow_the_cut_off_normal():
    draw = {"like": torch.zeros(1)}
    plain = standard_normal((200_000,), generator=torch.Generator().manual_seed(0), **draw)
    for bound in (0.01, 1.0, 2.0, 9.0):
        z = standard_normal(
            (200_000,), truncation=bound, generator=torch.Generator().manual_seed(0), **draw
        )
        inside = plain.abs() <= bound
        assert z.abs().max() <= bound and z[inside].equal(plain[inside])  # others stay
        density = math.exp(-bound * bound / 2) / math.sqrt(2 * math.pi)
        variance = 1 - 2 * bound * density / math.erf(bound / math.sqrt(2))
        assert float(z.var()) == pytest.approx(variance, rel=0.02)
    half = standard_normal((1000,), 0.5, truncation=1.0, **draw)
    assert half.abs().max() <= 0.5  # the bound comes before the temperature
    with pytest.raises(UsageError):
        standard_normal((3,), truncation=0.0, **draw)
