"""Flows of transformers: causal order, cached sampling, densities, noise and clean-up."""

from __future__ import annotations

import math

import pytest
import torch

from innverse import flows
from innverse.bijections import Causal, check_bijection, initialize
from innverse.errors import InputError, UsageError
from innverse.flows import Flow
from innverse.nets import ViT

KINDS = ["causal", "coupling"]


def moved(module, amount=0.1):
    for p in module.parameters():
        p.data.add_(torch.randn_like(p), alpha=amount)
    return module


def small(shape=(1, 4, 4), **options):
    options = {"patch": 2, "blocks": 2, "hidden": 8, "depth": 1, "heads": 2} | options
    return moved(flows.build("tarflow", shape, **options)).eval()


@pytest.mark.parametrize("backwards", [False, True])
def test_a_position_depends_on_earlier_ones_only(backwards):
    net = moved(ViT(2, 3, 8, 2, 2, causal=True, backwards=backwards), 0.5).double()
    x = torch.randn(1, 2, 2, 3, dtype=torch.float64)
    j = torch.autograd.functional.jacobian(net, x)
    depends = j.abs().sum((0, 1, 4, 5)).flatten(0, 1).flatten(1) > 0  # output, input position
    order = torch.arange(6).flip(0) if backwards else torch.arange(6)
    expected = torch.ones(6, 6).tril(-1).bool()
    assert torch.equal(depends[order][:, order], expected)


def test_without_causal_everything_sees_everything():
    net = moved(ViT(2, 3, 8, 2, 2), 0.5).double()
    j = torch.autograd.functional.jacobian(net, torch.randn(1, 2, 2, 3, dtype=torch.float64))
    assert (j.abs().sum((0, 1, 4, 5)) > 0).all()


def test_steps_with_a_cache_equal_the_parallel_pass():
    net = moved(ViT(2, 4, 8, 2, 2, causal=True, condition=3)).double()
    x, c = torch.randn(2, 2, 3, 2).double(), torch.randn(2, 3).double()
    layer = Causal(net)
    z, logdet = layer(x, c)
    back, logdet_back = layer.inverse(z, c)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(logdet_back, -logdet, rtol=0, atol=1e-12)


def test_a_net_that_is_not_causal_is_refused():
    with pytest.raises(ValueError, match="causal=True"):
        Causal(ViT(2, 4, 8))


@pytest.mark.parametrize("kind", KINDS)
def test_the_bijection_keeps_the_contract(kind):
    flow = small(kind=kind, noise=(0.01, 0.4))
    c = flow.noise(torch.tensor([0.02, 0.3])).detach()
    check_bijection(flow.bijection, torch.rand(2, 1, 4, 4), c)


@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_is_the_change_of_variables(kind):
    flow = small(kind=kind).double()
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    z = flow.encode(x)
    j = torch.autograd.functional.jacobian(flow.encode, x).reshape(16, 16)
    expected = -0.5 * z.square().sum() - 8 * math.log(2 * math.pi) + torch.linalg.slogdet(j)[1]
    assert abs(flow.log_prob(x) - expected) < 1e-10


def test_density_of_two_pixels_integrates_to_one():
    """An image of two pixels, each a patch of its own: the second is mapped given the first."""
    flow = moved(small((1, 1, 2), patch=1, blocks=3), 0.2).double()
    axis = torch.linspace(-12, 12, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
    with torch.no_grad():
        mass = flow.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(float(mass) - 1) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_any_size(kind):
    flow = small(kind=kind, patch=4)
    x = torch.rand(2, 1, 8, 12)
    torch.testing.assert_close(flow.decode(flow.encode(x)), x, rtol=1e-4, atol=1e-5)
    assert flow.encode(torch.rand(1, 1, 9, 5)).shape == (1, 1, 12, 8)
    assert flow.sample(2, size=(8, 4)).shape == (2, 1, 8, 4)


def test_saved_and_loaded(tmp_path):
    flow = small(noise=(0.02, 0.3))
    flow.save_pretrained(tmp_path)
    x = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(
        Flow.from_pretrained(tmp_path).log_prob(x, 0.1), flow.log_prob(x, 0.1)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_trained_with_noise_and_cleaned_up_by_tweedie(kind):
    """The data are two pictures; draws at a noise level come clean by the score."""
    torch.manual_seed(0)
    flow = flows.build(
        "tarflow", (1, 4, 4), kind=kind, patch=2, blocks=4, hidden=32, heads=2, depth=1,
        noise=(0.05, 0.5),
    )  # fmt: skip
    ramp = torch.linspace(0.2, 0.8, 4).expand(1, 4, 4)
    clean = torch.stack((ramp, ramp.mT))
    optimizer = torch.optim.Adam(flow.parameters(), 4e-3)

    def batch(n):
        sigma = torch.exp(math.log(0.05) + math.log(10) * torch.rand(n))
        x = clean[torch.randint(2, (n,))]
        return x + sigma.view(-1, 1, 1, 1) * torch.randn(x.shape), sigma

    initialize(flow, *batch(256))
    losses = []
    for _ in range(150):
        x, sigma = batch(64)
        loss = -flow.log_prob(x, sigma).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < sum(losses[:10]) - 50
    flow.eval()
    drawn = flow.sample(64, 0.1, generator=torch.Generator().manual_seed(0))
    cleaned = flow.denoise(drawn, 0.1)

    def distance(x):
        return (x[:, None] - clean).square().flatten(2).mean(2).min(1).values.mean().sqrt()

    assert distance(cleaned) < 0.8 * distance(drawn)


def test_mistakes():
    with pytest.raises(UsageError, match="for images"):
        flows.build("tarflow", (8,))
    with pytest.raises(UsageError, match="'causal' or 'coupling'"):
        flows.build("tarflow", (1, 8, 8), kind="both")
    with pytest.raises(ValueError, match="heads=3"):
        flows.build("tarflow", (1, 8, 8), hidden=8, heads=3)
    with pytest.raises(InputError, match="pass c=sigma"):
        small(noise=(0.01, 0.4)).sample(2)
