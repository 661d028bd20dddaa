"""What is measured of each model, against the models themselves."""

from __future__ import annotations

import math

import pytest
import torch

from innverse import zoo
from innverse.errors import UsageError
from innverse.flows import build
from innverse.metrics import psnr
from innverse.studies.compare import Contestant, codes, cost, likelihood


def test_draws_are_the_same_for_the_same_seed_in_any_number(three):
    for c in three:
        x = c.draw(20, 0.7, seed=3)
        assert x.shape == (20, 1, 16, 16) and x.min() >= 0 and x.max() <= 1
        assert x.equal(c.draw(20, 0.7, seed=3)) and not x.equal(c.draw(20, 0.7, seed=4))


def test_labels_levels_and_facts_of_saved_models(three, tmp_path):
    text = "12 steps of 8 crops on CPU in\n1.5 minutes, 1.2 of processor time;"
    for c in three:
        c.model.save_pretrained(tmp_path / c.label, card=text)
        again = Contestant.load(str(tmp_path / c.label))
        assert (again.label, again.sigma) == (c.label, c.sigma)
        assert again.training == {"steps": 12, "batch_size": 8, "minutes": 1.2}
    assert zoo.training("faces64") == {"steps": 20000, "batch_size": 16, "minutes": 293.7}
    assert zoo.training(tmp_path) == {}
    vectors = build("realnvp", (2,), layers=2, width=8)
    vectors.save_pretrained(tmp_path / "vectors")
    with pytest.raises(UsageError, match="no model of images"):
        Contestant.load(str(tmp_path / "vectors"))


def test_bits_are_those_of_the_models(three, images):
    inn, vae, gan = three
    x = likelihood.dequantized(images)
    assert ((256 * x).floor() == images).all()
    with torch.no_grad():
        expected = inn.model.bits_per_dim(x, inn.sigma)
    torch.testing.assert_close(likelihood.bits(inn, x), expected)
    generator = torch.Generator().manual_seed(0)
    bound = vae.model.bits_per_dim(x, 5, generator=generator)
    torch.testing.assert_close(likelihood.bits(vae, x, 5), bound)
    assert likelihood.bits(gan, x) is None
    y = likelihood.noised(images, 0.1)
    assert float((y - images / 255).std()) == pytest.approx(0.1, rel=0.1)


def test_the_inn_reaches_every_image_and_others_do_not(three, images):
    x = images[:4].float() / 255
    inn, vae, gan = (codes.closest(c, x, restarts=2, steps=20) for c in three)
    assert float((inn - x).abs().max()) < 1e-4
    with torch.no_grad():
        encoded = three[1].model.reconstruct(x)
    assert (psnr(vae, x) >= psnr(encoded, x) - 1e-6).all()  # it begins there, among others
    assert float(psnr(vae, x).max()) < 20 and float(psnr(gan, x).max()) < 20


def test_what_lies_in_the_range_is_found(three):
    gan = three[2]
    x = gan.draw(3, 1.0)
    found = codes.closest(gan, x, restarts=3, steps=100)
    assert float(psnr(found, x).min()) > 25


def test_more_restarts_are_never_worse(three, images):
    x = images[:3].float() / 255
    one, three_starts = (codes.closest(three[2], x, n, 10) for n in (1, 3))
    assert (psnr(three_starts, x) >= psnr(one, x)).all()


def test_latents_come_back_from_the_inn_alone(three):
    inn, vae, gan = (codes.latent_error(c, 4) for c in three)
    assert inn < 1e-4 < vae and gan is None


def test_all_coordinates_are_the_image_and_none_is_the_mode(three, images):
    inn, x = three[0], images[:2].float() / 255
    torch.testing.assert_close(codes.keep_largest(inn, x, 256), x, rtol=1e-3, atol=1e-4)
    mode = inn.decode(torch.zeros(1, 1, 16, 16)).expand_as(x)
    torch.testing.assert_close(codes.keep_largest(inn, x, 0), mode)
    errors = [float((codes.keep_largest(inn, x, k) - x).norm()) for k in (4, 250)]
    assert errors[1] < errors[0]


def test_a_training_step_leaves_the_model_alone_and_gives_every_gradient(three, images):
    x = likelihood.dequantized(images)
    for c in three:
        before = {name: p.clone() for name, p in c.model.state_dict().items()}
        step = cost.training_step(c, x)
        assert all(p.grad is not None for p in step().parameters())
        assert all(p.grad is None and not p.requires_grad for p in c.model.parameters())
        after = c.model.state_dict()
        assert all(after[name].equal(value) for name, value in before.items())


def test_memory_is_flat_in_depth_with_reversible_layers():
    flow = build("glow", (1, 16, 16), levels=1, steps=4, hidden=8)
    found = cost.bytes_by_depth(flow, torch.rand(4, 1, 16, 16), None)
    assert list(found["store"]) == [4, 8, 16]
    store, reversible = (list(found[mode].values()) for mode in cost.MODES)
    assert store[2] > 2.5 * store[0]
    assert reversible[2] < 1.25 * reversible[0] and reversible[2] < store[2] / 3
    assert cost.bytes_by_depth(build("nice", (4,)), torch.rand(4, 4), None) is None


def test_times_are_there_for_what_a_model_can(three, images):
    x = likelihood.dequantized(images)
    for c in three:
        found = cost.times(c, x)
        assert found["step"] > 0 and found["sample"] > 0
        assert (found["encode"] is None) == (c.label == "GAN")
    assert not math.isnan(cost.processor_seconds(lambda: None))
