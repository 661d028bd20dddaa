"""The weights that ship: they load, are what their cards say, and do what such a model does."""

from __future__ import annotations

import math

import pytest
import torch

import innverse
from innverse import zoo

GENERATORS = ("faces64-vae", "faces64-gan")
PRIORS = {
    "faces64": ("mirror",),
    "natural-gray": ("mirror", "transpose"),
    "natural-color": ("mirror", "transpose"),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_faces_of_a_generator(name):
    model = innverse.load(name)
    x = model.sample(8, generator=torch.Generator().manual_seed(0))
    assert x.shape == (8, 3, 64, 64) and x.min() >= 0 and x.max() <= 1
    assert x.std(0).mean() > 0.05, "draws differ from one another"
    # neighbouring pixels of pictures are alike, those of noise are not
    assert (x[..., 1:] - x[..., :-1]).abs().mean() < 0.3 * x.std()
    card = zoo.card(name)
    assert f"{model.n_parameters:,} parameters" in card and "innverse train configs/" in card


def test_generators_and_flow_have_the_same_budget():
    size = {name: innverse.load(name).n_parameters for name in ("faces64", *GENERATORS)}
    assert max(size.values()) < 1.01 * min(size.values())


def test_the_vae_reconstructs_what_it_makes():
    vae = innverse.load("faces64-vae")
    g = torch.Generator().manual_seed(0)
    x = vae.sample(8, temperature=0.8, generator=g)
    others = x.roll(1, 0)
    again = vae.reconstruct(x)
    error = lambda y: (again - y).square().mean().sqrt().item()  # noqa: E731
    assert error(x) < 0.3 * error(others)
    noisy = x + vae.scale * torch.randn(x.shape, generator=g)
    # the density that it has around its own images, less the price of finding them
    ceiling = math.log2(vae.scale * math.sqrt(2 * math.pi * math.e)) + 8
    bits = vae.bits_per_dim(noisy, 4, generator=g).mean().item()
    assert ceiling < bits < ceiling + 0.2


def test_the_critic_tells_samples_from_noise():
    gan = innverse.load("faces64-gan")
    x = gan.sample(16, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    assert gan.judge(x).mean() > gan.judge(noise).mean() + 0.5


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("20000 steps of 16 crops in 293.7 minutes on\nCPU; 0 steps refused", 293.7),
        ("20000 steps of 16 crops on CPU in\n30.1 minutes, 12.5 of processor time;", 12.5),
        ("20000 steps of 16 crops on NVIDIA H100 80GB in\n30.1 minutes, 12.5 of processor time;", 12.5),
    ],
)  # fmt: skip
def test_training_as_cards_tell_it(monkeypatch, text, minutes):
    monkeypatch.setattr(zoo, "card", lambda name: f"# m\n\n## Training\n{text}\n")
    assert zoo.training("m") == {"steps": 20000, "batch_size": 16, "minutes": minutes}
    monkeypatch.setattr(zoo, "card", lambda name: "")
    assert zoo.training("m") == {}


@pytest.mark.parametrize("name", PRIORS)
def test_symmetries_are_those_of_the_training(name):
    """What the denoiser averages over is what the card says that the crops were turned by."""
    card = zoo.card(name)
    turned = {"mirror": "flip = true" in card, "transpose": "transpose = true" in card}
    expected = tuple(key for key, on in turned.items() if on)
    assert innverse.load(name).symmetries == PRIORS[name] == expected
