"""Whole calls with everything on a GPU and not another word: nothing meets a tensor of the CPU."""

from __future__ import annotations

import copy
import importlib

import pytest
import torch

import innverse
from innverse import amortized, fit, flows, physics
from innverse.train import Trainer, load_config
from innverse.train.sources import TrainingImages
from pretend_gpu import GPU, Mixed, pretended

SIZE = 8


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    options = {"levels": 1, "steps": 1, "hidden": 4, "how": "film", "squeeze": "haar"}
    flow = flows.build("glow", (1, SIZE, SIZE), noise=(0.01, 0.4), **options)
    flow.initialize_(torch.rand(8, 1, SIZE, SIZE), 0.1)
    return flow.eval().requires_grad_(False)


def mask():
    g = torch.Generator().manual_seed(1)
    return (torch.rand(1, 1, SIZE, SIZE, generator=g) > 0.3).float()


OPERATORS = {
    "denoising": physics.Denoising,
    "inpainting": lambda: physics.Inpainting(mask()),
    "blur": lambda: physics.Blur(torch.ones(3, 3) / 9),
    "compressed sensing": lambda: physics.CompressedSensing(30, (1, SIZE, SIZE)),
    "downsampling": lambda: physics.Downsampling(2),
    "fourier": lambda: physics.SubsampledFourier(mask()),
}
QUICK = {
    "map": {"steps": 3},
    "latent": {"steps": 3},
    "constrained": {"steps": 3},
    "deep_decoder": {"steps": 3, "doublings": 1},
    "tv": {},
    "lasso": {},
}
FEW = {"draws": 8, "warmup": 2, "chains": 2, "steps": 2}
SLOW = {
    "posterior": FEW,
    "langevin": {"draws": 2},
    "smc": {"draws": 32, "steps": 2},
    "variational": {"steps": 3},
}
CASES = [pytest.param(name, "inpainting", options, id=name) for name, options in QUICK.items()]
CASES += [pytest.param("pnp", name, {"steps": 3}, id=f"pnp {name}") for name in OPERATORS]
CASES += [
    pytest.param(name, "inpainting", options, id=name, marks=pytest.mark.slow)
    for name, options in SLOW.items()
]


def test_what_mixes_devices_raises():
    with pretended():
        x = torch.ones(3).to(GPU)
        assert (2 * x).sum().item() == 6 and (x + torch.ones(3, device=GPU)).device == GPU
        with pytest.raises(Mixed):
            x + torch.ones(3)
        with pytest.raises(Mixed):
            torch.rand(3, device=GPU, generator=torch.Generator())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("method", "name", "options"), CASES)
def test_a_solve_stays_there(prior, method, name, options):
    with pretended():
        there, operator = copy.deepcopy(prior).to(GPU), OPERATORS[name]().to(GPU)
        x = 0.5 + 0.3 * torch.linspace(-1, 1, SIZE).sin().expand(1, 1, SIZE, SIZE)
        y = operator.A(x.to(GPU))
        found = innverse.solve(y, operator, there, method=method, noise=0.05, **options)
        assert found.x.device == GPU and found.x.cpu().isfinite().all()


@pytest.fixture
def chosen(monkeypatch):
    """The device called "cuda" is the pretended one."""
    for name in ("innverse.fitting.fit", "innverse.amortized.fit"):
        module = importlib.import_module(name)
        if hasattr(module, "choose_device"):
            monkeypatch.setattr(module, "choose_device", lambda name: GPU)


@pytest.mark.parametrize("name", ["nsf", "maf"])
def test_a_fit_stays_there(chosen, name):
    options = {"max_epochs": 2, "batch_size": 50, "progress": False}
    with pretended():
        flow = flows.build(name, (2,), condition=1, layers=1, width=4)
        history = fit(flow, torch.randn(200, 2), torch.randn(200, 1), device="cuda", **options)
        assert history.epochs == 2 and next(flow.parameters()).device == GPU
        x, c = torch.randn(5, 2).to(GPU), torch.randn(5, 1).to(GPU)
        assert flow.log_prob(x, c).device == GPU and flow.sample(3, c[0]).device == GPU


def test_an_amortised_posterior_is_trained_there(chosen):
    options = {"max_epochs": 1, "progress": False, "device": "cuda"}
    theta = torch.rand(200, 2)
    with pretended():
        posterior = amortized.fit(theta, theta + 0.1 * torch.randn(200, 2), **options)
        assert posterior.sample((4,), x=[0.5, 0.5]).shape == (4, 2)


@pytest.mark.parametrize("noise", [None, [0.02, 0.4]], ids=["plain", "noisy"])
def test_a_training_stays_there(noise):
    settings = {
        "data.path": "digits", "model.levels": 1, "model.steps": 1, "model.hidden": 4,
        "train.batch_size": 4, "train.eval_images": 4, "train.steps": 4,
    }  # fmt: skip
    if noise:
        settings |= {"model.noise": noise, "train.score_matching": 1.0}
    config = load_config(overrides=settings)
    with pretended():
        data = TrainingImages(config)
        trainer = Trainer(data.config, data, device=GPU)
        trainer.initialize()
        trainer.read([trainer.step() for _ in range(2)])
        saved = trainer.checkpoint()
        again = Trainer(data.config, data, device=GPU)
        again.restore(saved)
        (row,) = again.read([again.step()])
        assert row["skipped"] is None and again.evaluate() and again.trouble() is None
        assert again.sample(2).shape[0] == 2
