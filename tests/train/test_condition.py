"""Flows that learn to answer measurements: what they see, what a run leaves, bad settings."""

from __future__ import annotations

import json

import pytest
import torch

import innverse
from innverse.catalog import OPERATORS
from innverse.cli import main
from innverse.errors import InputError, UsageError
from innverse.flows import build
from innverse.physics import GaussianNoise
from innverse.physics.as_images import as_images
from innverse.solvers.coverage import as_given
from innverse.solvers.problem import Problem
from innverse.train import Trainer, train
from innverse.train.condition import Measurements
from innverse.train.config import ConditionConfig
from innverse.train.sources import TrainingImages

KEEP = {"condition_physics": "inpainting", "condition_keep": 0.5, "condition_noise": 0.05}
RANDOM = {"inpainting": {"keep": 0.5}, "compressed_sensing": {"ratio": 0.5}}


def measurements(physics="inpainting", shape=(1, 4, 4), seed=0, **more) -> Measurements:
    return Measurements(ConditionConfig(physics=physics, **{"noise": 0.05} | more), shape, seed)


def crops(n=6, side=4):
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 1, side, side), generator=g, dtype=torch.uint8)


def test_a_batch_is_a_function_of_seed_and_step_and_masks_are_drawn_anew_for_every_crop():
    images, one = crops(), measurements()
    noise, sigma, c = one.batch(images, 3, "measure")
    again = measurements().batch(images, 3, "measure")
    assert all(torch.equal(a, b) for a, b in zip((noise, sigma, c), again, strict=True))
    others = (one.batch(images, 4, "measure"), measurements(seed=1).batch(images, 3, "measure"),
              one.batch(images, 3, "evaluate"))  # fmt: skip
    assert not any(torch.equal(c, other[2]) for other in others)
    masks = c[:, 1]
    assert (masks.flatten(1).sum(1) == 8).all() and len(masks.flatten(1).unique(dim=0)) > 1
    # processes share a batch: the second one's half is the second half
    assert torch.equal(one.batch(images[3:], 3, "measure", first=3)[2], c[3:])


def test_what_is_measured_is_the_noisy_picture():
    images = crops(400)
    noise, sigma, c = measurements(keep=1, sigma=0.3, noise=0.1).batch(images, 0, "measure")
    u = images / 255 + sigma.view(-1, 1, 1, 1) * noise
    assert (sigma == 0.3).all() and noise.std() == pytest.approx(1, abs=0.03)
    assert (c[:, :1] - u).std() == pytest.approx(0.1, rel=0.03)
    assert torch.allclose(c[:, 2].exp(), torch.tensor(0.1))


def test_noise_levels_are_log_uniform_in_their_range():
    level = measurements(noise=(0.01, 0.1)).batch(crops(400), 0, "measure")[2][:, 2, 0, 0]
    low, high = torch.tensor([0.01, 0.1]).log()
    assert level.min() >= low and level.max() <= high
    assert level.mean() == pytest.approx(float(low + high) / 2, abs=0.1)


@pytest.mark.parametrize("physics", OPERATORS)
def test_every_operator_can_be_answered(physics):
    one = measurements(physics, (2 if physics == "mri" else 1, 16, 16), **RANDOM.get(physics, {}))
    images = crops(2, 16).expand(2, one.shape[0], 16, 16)
    c = one.batch(images, 0, "measure")[2]
    assert c.shape == (2, one.channels, 16, 16) and c.isfinite().all()
    # and is told the same of a measurement when it is solved, where complex numbers are taken apart
    physics = one._drawn(torch.Generator()) if one.config.draws_operators else one._fixed
    y = physics._copy(noise=GaussianNoise(0.05))(images / 255)
    given = as_given(Problem.build(y, physics, None, 0.05))
    torch.testing.assert_close(as_images(*given, 0.05), as_images(y, physics, 0.05))


def test_a_random_operator_with_a_seed_of_its_own_is_one_for_all():
    def drawn(physics, **options) -> bool:
        return ConditionConfig(physics=physics, noise=0.05, **options).draws_operators

    assert drawn("inpainting") and drawn("compressed_sensing")
    assert not drawn("inpainting", seed=5) and not drawn("compressed_sensing", seed=5)
    assert not drawn("inpainting", mask="mask.png") and not drawn("blur")
    config = ConditionConfig(physics="inpainting", noise=0.05, seed=5)
    masks = Measurements(config, (1, 4, 4), 0).batch(crops(), 0, "measure")[2][:, 1]
    assert len(masks.flatten(1).unique(dim=0)) == 1


def test_the_adjoint_says_all_that_a_measurement_says_of_a_picture():
    physics = innverse.physics.MatrixPhysics(torch.randn(5, 16), (1, 4, 4))
    y = torch.rand(2, 5)
    c = as_images(y, physics, torch.tensor([0.1, 0.2]))
    assert torch.allclose(c[:, :1], physics.A_adjoint(y))
    assert torch.allclose(c[:, 1:2], physics.A_normal(torch.ones(2, 1, 4, 4)))
    assert torch.allclose(c[:, 2, 0, 0].exp(), torch.tensor([0.1, 0.2]))


def test_features_know_which_pixel_of_a_block_was_measured():
    """A coupling behind a squeeze sees averages of four pixels; the network before them does not."""
    c = torch.zeros(2, 3, 8, 8)
    c[0, 1, ::2, ::2] = c[1, 1, 1::2, 1::2] = 1  # one of four, another one
    x = torch.rand(1, 1, 8, 8).expand(2, -1, -1, -1)
    for features, alike in ((0, True), (4, False)):
        torch.manual_seed(0)
        flow = build("glow", (1, 8, 8), levels=1, steps=1, hidden=4, condition=3, features=features)
        for p in flow.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
        a, b = flow.log_prob(x, c).tolist()
        assert (a == pytest.approx(b, abs=1e-6)) is alike
        assert torch.allclose(flow.decode(flow.encode(x, c), c), x, atol=1e-4)
    with pytest.raises(UsageError, match="a condition that is a map"):
        build("glow", (1, 8, 8), features=4)


def test_an_interrupted_run_continues_bit_for_bit_and_is_answered_by_the_command_line(
    settings, curve, tmp_path, monkeypatch, capsys
):
    config = settings(
        **KEEP, model_features=4, train_steps=6, train_checkpoint_every=3, train_eval_every=6
    )
    whole = train(config, tmp_path / "whole", device="cpu", quiet=True)
    step = Trainer.step
    with monkeypatch.context() as m:
        m.setattr(Trainer, "step", lambda self, stop=False: step(self, self.step_number == 3))
        assert not train(config, tmp_path / "parts", device="cpu", quiet=True).complete
    train(config, tmp_path / "parts", device="cpu", quiet=True)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    assert whole.held_out.keys() == {"gap"}
    assert any("gap" in row for row in curve(tmp_path / "whole") if row["kind"] == "train")
    assert (tmp_path / "whole" / "samples" / "000000006.png").stat().st_size > 50
    card = (whole.model / "README.md").read_text()
    assert "[condition]" in card and 'physics = "inpainting"' in card and "keep = 0.5" in card
    model = innverse.load(whole.model)
    told = {"physics": "inpainting", "options": {"keep": 0.5}, "noise": [0.05, 0.05], "sigma": 0.02}
    assert model.measurement == told and model.condition == 3

    monkeypatch.chdir(tmp_path)
    innverse.data.write_image(tmp_path / "clean.png", torch.rand(1, 1, 8, 8))
    code = main([
        "solve", "clean.png", "--simulate", "--physics", "inpainting", "--noise", "0.05", "--out",
        "r", "--prior", str(whole.model), "--method", "amortised", "--draws", "30", "--json",
    ])  # fmt: skip
    assert code in (0, 3)  # hardly trained
    (found,) = json.loads(capsys.readouterr().out)["results"]
    assert found["method"] == "amortised" and found["reason"].endswith("by a conditional flow")
    assert found["posterior"]["draws"] == 30 and "amortised" in found["posterior"]["approximate"]
    assert (tmp_path / "r" / "draws.npz").exists() and (tmp_path / "r" / "std.png").exists()


def test_held_out_crops_judge_a_conditional_density(settings):
    config = settings(**KEEP)
    trainer = Trainer(config, TrainingImages(config))
    trainer.initialize()
    (images, *_) = trainer.data.held_out(8)
    noise, _, c = trainer.measurements.batch(images, 0, "evaluate")
    u = images / 255 + 0.02 * noise
    nll = -trainer.ema.log_prob(u, c).mean() / 16
    entropy = torch.distributions.Normal(0.0, 0.02).entropy()
    assert trainer.evaluate()["gap"] == pytest.approx(float(nll - entropy), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"condition_physics": "telescope"}, "unknown physics 'telescope': choose denoising"),
        ({"condition_keep": 2}, "keep=2"),
        ({"condition_kep": 0.5}, "kep"),
        ({"condition_noise": 0}, "condition.noise"),
        ({"condition_noise": [0.2, 0.1]}, "needs lo <= hi"),
        ({"condition_noise": True}, "condition.noise"),
        ({"condition_noise": None}, "condition.noise is missing"),
        ({"condition_sigma": 0}, "condition.sigma"),
        ({"condition_physics": None}, "condition.physics is missing"),
        ({"model_noise": [0.02, 0.4]}, "exclude each other"),
    ],
)
def test_bad_settings_are_one_line(settings, changes, words):
    with pytest.raises(UsageError, match=words) as error:
        settings(**KEEP | changes)
    assert len(str(error.value).splitlines()) <= 2  # a union has a line for each kind


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_name": "vae", "model_levels": None, "model_steps": None}, "is for flows"),
        ({"model_name": "tarflow", "model_levels": None, "model_steps": None}, "vectors only"),
        ({"model_how": "film"}, "vectors only"),
    ],
)
def test_models_that_take_no_condition_are_refused(settings, tmp_path, changes, words):
    with pytest.raises(UsageError, match=words):
        train(settings(**KEEP | changes), tmp_path, device="cpu", quiet=True)


@pytest.mark.parametrize(
    "given",
    [
        "inpainting",
        {"physics": "inpainting"},
        {"physics": 3, "options": {}, "noise": [0.1, 0.1], "sigma": 0.02},
        {"physics": "inpainting", "options": {}, "noise": [0.1], "sigma": 0.02},
        {"physics": "inpainting", "options": {}, "noise": [0.1, -0.1], "sigma": 0.02},
        {"physics": "inpainting", "options": {}, "noise": [0.1, "x"], "sigma": 0.02},
    ],
)
def test_a_measurement_that_is_none_is_not_believed(tmp_path, given):
    flow = build("glow", (1, 8, 8), levels=1, steps=1, hidden=4, condition=3)
    flow.measurement = {"physics": "blur", "options": {}, "noise": [0.1, 0.1], "sigma": 0.02}
    flow.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"measurement": given}))
    with pytest.raises(InputError, match="gives a measurement"):
        innverse.load(tmp_path)


@pytest.mark.parametrize("memory", ["checkpoint", "reversible"])
def test_the_network_of_the_features_has_its_gradient_however_memory_is_saved(memory):
    torch.manual_seed(0)
    options = {"levels": 2, "steps": 1, "hidden": 4, "condition": 3, "features": 4}
    flow = build("glow", (1, 8, 8), **options).double()
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    x, c = torch.rand(2, 1, 8, 8).double(), torch.rand(2, 3, 8, 8).double()

    def gradients() -> list[torch.Tensor]:
        return torch.autograd.grad(flow.log_prob(x, c).sum(), list(flow.condition_net.parameters()))

    for a, b in zip(gradients(), (flow.set_memory(memory), gradients())[1], strict=True):
        torch.testing.assert_close(a, b)
        assert a.abs().max() > 0
