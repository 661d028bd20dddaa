"""What every generator promises: shapes, sizes, seeds, files, errors."""

from __future__ import annotations

import json

import pytest
import torch

import innverse
from innverse import flows, generators
from innverse.errors import InputError, ShapeError, UsageError
from innverse.generators import GAN, VAE
from innverse.solvers import solve

SMALL = {"latent": 3, "width": 8}


@pytest.fixture(params=["vae", "gan"])
def name(request):
    return request.param


def test_names():
    assert generators.names() == ["freeform", "gan", "vae"]
    assert not set(generators.names()) & set(flows.names())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 64, 48), (1, 128, 128)])
def test_images_of_many_shapes(name, shape):
    model = generators.build(name, shape, **SMALL).eval()
    x = model.sample(2, generator=torch.Generator().manual_seed(1))
    assert x.shape == (2, *shape) and model.latent_shape == (3,)
    assert x.min() >= 0 and x.max() <= 1
    assert torch.equal(x, model.sample(2, generator=torch.Generator().manual_seed(1)))
    assert model.n_parameters == sum(p.numel() for p in model.parameters())
    score = model.judge(x) if name == "gan" else model.log_prob_bound(x)
    assert score.shape == (2,) and torch.isfinite(score).all()


def test_temperature_scales_the_latents(name):
    model = generators.build(name, (1, 8, 8), **SMALL).eval()
    cold = model.sample(3, temperature=0.0)
    torch.testing.assert_close(cold, model.decode(torch.zeros(3, 3)))
    z = torch.randn(3, 3, generator=torch.Generator().manual_seed(2))
    half = model.sample(3, temperature=0.5, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(half, model.decode(0.5 * z))
    near = model.sample(3, truncation=1e-4)
    torch.testing.assert_close(near, cold, atol=1e-2, rtol=0)


def test_round_trip_of_files(name, tmp_path):
    model = generators.build(name, (3, 16, 16), growth=1.5, **SMALL).eval()
    model.save_pretrained(tmp_path / "m")
    z = torch.randn(2, 3)
    for again in (innverse.load(tmp_path / "m"), type(model).from_pretrained(tmp_path / "m")):
        assert type(again) is type(model)
        assert torch.equal(again.decode(z), model.decode(z))
        assert not any(p.requires_grad for p in again.parameters())
    other = {"vae": GAN, "gan": VAE}[name]
    with pytest.raises(InputError, match=f"holds a {name}"):
        other.from_pretrained(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["format"] == "innverse-generator" and config["config"]["growth"] == 1.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"laten": 3}, "did you mean 'latent'"),
        ({"latent": 0}, "must be >= 1"),
        ({"width": 0}, "must be >= 1"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(UsageError, match=message):
        generators.build(name, (1, 8, 8), **options)


@pytest.mark.parametrize("shape", [(1, 7, 7), (3, 256, 256), (1, 30, 30), (1, 16, 102), (4,)])
def test_bad_shapes(name, shape):
    with pytest.raises(UsageError, match="shape"):
        generators.build(name, shape)


def test_wrong_use(name):
    model = generators.build(name, (1, 8, 8), **SMALL)
    with pytest.raises(ShapeError, match=r"takes z \(B, 3\), got \(2, 4\)"):
        model.decode(torch.randn(2, 4))
    with pytest.raises(UsageError, match=r"images of \(8, 8\) only"):
        model.sample(1, size=(16, 16))
    with pytest.raises(UsageError, match="no generator is called 'vea'"):
        generators.build("vea", (1, 8, 8))


def test_a_latent_search_finds_an_image_in_range(name):
    model = generators.build(name, (1, 8, 8), **SMALL).eval().requires_grad_(False)
    x = model.sample(2, generator=torch.Generator().manual_seed(0))
    mask = (torch.rand(1, 1, 8, 8) < 0.7).float()

    class Seen:
        A = A_adjoint = staticmethod(lambda x: mask * x)

    found = solve(mask * x, Seen(), model, "latent")
    assert found.z.shape == (2, 3) and found.log_prob is None
    assert (found.residual < 1e-3).all()
    torch.testing.assert_close(found.x, x, atol=5e-3, rtol=0)
    with pytest.raises(UsageError, match="needs a"):
        solve(mask * x, Seen(), model, "constrained")
    with pytest.raises(ShapeError, match=r"makes images of \(1, 8, 8\) only"):
        solve(torch.rand(1, 1, 9, 9), (torch.clone, torch.clone), model, "latent")
