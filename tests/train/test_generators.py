"""Training of VAE and GAN by the one loop: resuming, files, errors."""

from __future__ import annotations

import pytest
import torch

import innverse
from innverse.errors import UsageError
from innverse.train import Trainer, load_config, train
from innverse.train.adversarial import AdversarialTrainer
from innverse.train.sources import TrainingImages


@pytest.fixture
def config(images):
    def make(name, **changes):
        overrides = {
            "data.path": str(images), "data.channels": 1, "data.crop": 8, "data.held_out": 8,
            "model.name": name, "model.latent": 3, "model.width": 8,
            "train.steps": 20, "train.batch_size": 8, "train.warmup": 3, "train.log_every": 1,
            "train.eval_every": 10, "train.checkpoint_every": 5, "train.sample_every": 100,
            "train.eval_images": 8, "train.threads": 1,
        }  # fmt: skip
        overrides |= {key.replace("_", ".", 1): value for key, value in changes.items()}
        return load_config(None, overrides)

    return make


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_an_interrupted_run_continues_bit_for_bit(config, curve, tmp_path, monkeypatch, name):
    settings = config(name, train_precision="bf16")
    whole = train(settings, tmp_path / "whole", device="cpu", quiet=True)
    step = Trainer.step
    for last in (7, 13):
        with monkeypatch.context() as m:
            stopping = lambda self, stop, last=last: step(self, self.step_number + 1 == last)  # noqa: E731
            m.setattr(Trainer, "step", stopping)
            outcome = train(settings, tmp_path / "parts", device="cpu", quiet=True)
        assert not outcome.complete and outcome.step == last
    parts = train(settings, tmp_path / "parts", device="cpu", quiet=True)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    assert parts.held_out == whole.held_out
    a, b = (innverse.load(o.model).state_dict() for o in (whole, parts))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_what_a_run_leaves(config, tmp_path):
    vae = train(config("vae"), tmp_path / "vae", device="cpu", quiet=True)
    assert vae.held_out.keys() == {"bits_per_dim_bound", "reconstruction_psnr"}
    card = (vae.model / "README.md").read_text()
    assert "variational autoencoder" in card and "encoder" in card and "latent = 3" in card
    gan = train(config("gan"), tmp_path / "gan", device="cpu", quiet=True)
    assert gan.held_out.keys() == {"critic_real", "critic_fake"}
    assert "no likelihood" in (gan.model / "README.md").read_text()


def test_a_vae_learns(config, curve, tmp_path):
    settings = config("vae", train_steps=200, train_lr=3e-3, train_eval_every=200)
    outcome = train(settings, tmp_path, device="cpu", quiet=True)
    first = next(r for r in curve(tmp_path) if r["step"] == 1)["bits_per_dim_bound"]
    assert outcome.held_out["bits_per_dim_bound"] < first - 1


def test_critic_and_generator_take_turns(config):
    """Each moves on its own loss only, the critic at its own rate."""
    settings = config("gan", train_critic_lr=2e-3, train_lr=1e-3, train_warmup=0)
    trainer = AdversarialTrainer(settings, TrainingImages(settings))
    trainer.initialize()
    before = {k: v.detach().clone() for k, v in trainer.model.named_parameters()}
    row = trainer.step()
    assert row["skipped"] is None and row["critic_grad_norm"] > 0
    moved = {k: (v - before[k]).abs().max().item() for k, v in trainer.model.named_parameters()}
    # the first step of Adam is lr, whatever the gradient
    critic = max(v for k, v in moved.items() if k.startswith("critic."))
    generator = max(v for k, v in moved.items() if k.startswith("generator."))
    assert abs(critic - 2e-3) < 2e-4 and abs(generator - 1e-3) < 1e-4
    assert all(p.requires_grad for p in trainer.model.parameters())


@pytest.mark.slow
def test_a_gan_comes_nearer_to_the_data(config, images, tmp_path):
    """The covariance of the pixels of samples approaches that of the data."""
    settings = config("gan", model_latent=8, model_width=16, train_steps=1000, train_lr=3e-3,
                      train_betas=[0.5, 0.99], train_batch_size=16, train_ema=0.9)  # fmt: skip
    trainer = AdversarialTrainer(settings, TrainingImages(settings))
    trainer.initialize()
    data = torch.cat([trainer.data.batch(i) for i in range(8)]).float() / 255
    wanted = data.flatten(1).T.cov()

    def gap() -> float:
        return (trainer.sample(256).flatten(1).T.cov() - wanted).norm().item()

    before = gap()
    for _ in range(1000):
        trainer.step()
    assert gap() < 0.6 * before


def test_the_average_has_the_statistics_of_its_own_batches(config):
    """In eval mode it makes the images that it makes in training mode."""
    settings = config("gan", model_latent=8)
    trainer = AdversarialTrainer(settings, TrainingImages(settings))
    trainer.initialize()
    for norm in trainer.ema.generator.norms:
        norm.running_mean.fill_(3.0)  # of weights far from the average
    z = torch.randn(512, 8)
    stale = trainer.ema.eval().decode(z)
    settled = trainer._averaged().decode(z)
    fresh = trainer.ema.train().decode(z)
    assert (settled - fresh).abs().mean() < 0.2 * (stale - fresh).abs().mean()


def test_settings_that_a_generator_has_not(config):
    with pytest.raises(UsageError, match="vae has no option 'noise'"):
        Trainer(config("vae", model_noise=[0.1, 0.2]), TrainingImages(config("vae")))
    with pytest.raises(UsageError, match="sides from 8"):
        Trainer(config("gan", data_crop=4), TrainingImages(config("gan")))
