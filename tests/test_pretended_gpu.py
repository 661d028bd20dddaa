"""Whole calls with everything on a GPU and not another word: nothing meets a tensor of the CPU, graphs
are recorded, and what is found is what a processor finds."""

from __future__ import annotations

import copy

import pytest
import torch

import innverse
from innverse import amortized, fit, flows, physics
from innverse.accelerate.captured import Captured
from innverse.seeding import seeded
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


INPAINTING = lambda: physics.Inpainting(mask())  # noqa: E731
# every method, with few steps
FEW = {"draws": 9, "warmup": 2, "chains": 3, "steps": 2}
METHODS = {
    "map": {"steps": 3}, "latent": {"steps": 3}, "constrained": {"steps": 3}, "pnp": {"steps": 3},
    "adaptive": {"steps": 2}, "deep_decoder": {"steps": 3, "doublings": 1}, "tv": {}, "lasso": {},
    "exchange": FEW | {"levels": 2}, "posterior": FEW, "langevin": {"draws": 2},
    "smc": {"draws": 32, "steps": 2},
    "variational": {"steps": 3},
}  # fmt: skip


def test_what_mixes_devices_raises():
    with pretended():
        x = torch.ones(3).to(GPU)
        assert (2 * x).sum().item() == 6 and (x + torch.ones(3, device=GPU)).device == GPU
        with pytest.raises(Mixed):
            x + torch.ones(3)
        with pytest.raises(Mixed):
            torch.rand(3, device=GPU, generator=torch.Generator())
        with pytest.raises(TypeError):
            x.numpy()


def test_records_refuse_what_waits_and_draw_by_the_seed():
    with pretended() as graphs:
        x = torch.ones(3).to(GPU)
        drawn = Captured(lambda x: x + torch.rand(3, device=GPU))
        for seed in (1, 2, 1, 1, 2):
            torch.manual_seed(seed)
            found = drawn(x)
            torch.manual_seed(seed)
            assert torch.equal(found, x + torch.rand(3, device=GPU))
        assert (graphs.made, graphs.replays) == (1, 3)
        with pytest.warns(UserWarning, match="without a CUDA graph.*synchronizing"):
            waits = Captured(lambda x: x * x.sum().item())
            assert [waits(x).tolist() for _ in range(4)] == [[3.0] * 3] * 4
        assert graphs.made == 1


def solved(prior, operator, method, options, device):
    g = torch.Generator().manual_seed(2)
    prior, operator = copy.deepcopy(prior).to(device), operator.to(device)
    x = 0.5 + 0.3 * torch.linspace(-1, 1, SIZE).sin().expand(1, 1, SIZE, SIZE)
    y = operator.A(x.to(device))
    level = 0.05 * float(y.abs().square().mean().sqrt().clamp_min(0.1))
    y = y + level * torch.randn(y.shape, generator=g).to(y)
    return innverse.solve(y, operator, prior, method=method, noise=level, **options)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_a_method_stays_there(prior, method):
    with pretended(least=2**15):
        found = solved(prior, INPAINTING(), method, METHODS[method], GPU)
        assert found.x.device == GPU and found.x.cpu().isfinite().all()
        if found.samples is not None:
            assert found.samples.device in (GPU, torch.device("cpu"))


def test_every_method_is_tried():
    registered = innverse.solvers.METHODS
    # tests of the docs register methods of their own
    ours = {n for n in registered if registered[n].__module__.startswith("innverse.")}
    assert {*METHODS} >= ours - {"amortised"} and len(ours) > 10


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", physics.names())
def test_an_operator_stays_there(prior, name):
    """Its pictures, and what pnp makes of them, are those of the processor."""
    operator = physics.build(name, (1, SIZE, SIZE))
    method = ("pnp", {"steps": 3, "churn": 0.0}) if operator.linear else ("map", {"steps": 3})
    right = solved(prior, copy.deepcopy(operator), *method, "cpu")
    with pretended(least=2**15):
        found = solved(prior, operator, *method, GPU)
        assert found.x.device == GPU
        torch.testing.assert_close(found.x.cpu(), right.x, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", ["nsf", "maf"])
def test_a_fit_stays_there(name):
    options = {"max_epochs": 2, "batch_size": 50, "progress": False}
    with pretended() as graphs:
        flow = flows.build(name, (2,), condition=1, layers=1, width=4)
        history = fit(flow, torch.randn(200, 2), torch.randn(200, 1), device="cuda", **options)
        assert history.epochs == 2 and next(flow.parameters()).device == GPU
        assert graphs.made and graphs.replays
        x, c = torch.randn(5, 2).to(GPU), torch.randn(5, 1).to(GPU)
        assert flow.log_prob(x, c).device == GPU and flow.sample(3, c[0]).device == GPU


def test_an_amortised_posterior_is_trained_there():
    options = {"max_epochs": 1, "progress": False, "device": "cuda"}
    theta = torch.rand(200, 2)
    with pretended():
        posterior = amortized.fit(theta, theta + 0.1 * torch.randn(200, 2), **options)
        assert posterior.sample((4,), x=[0.5, 0.5]).shape == (4, 2)
        assert posterior.log_prob(theta[:3], x=[0.5, 0.5]).shape == (3,)


def test_a_seed_seeds_the_device():
    with pretended():
        with seeded(3):
            first = torch.rand(3, device=GPU)
        after = torch.rand(3, device=GPU)
        with seeded(3):
            assert torch.equal(torch.rand(3, device=GPU), first)
        assert not torch.equal(torch.rand(3, device=GPU), after)


@pytest.mark.parametrize("noise", [None, [0.02, 0.4]], ids=["plain", "noisy"])
def test_a_training_stays_there(noise):
    settings = {
        "data.path": "digits", "model.levels": 1, "model.steps": 1, "model.hidden": 4,
        "train.batch_size": 4, "train.eval_images": 4, "train.steps": 8,
    }  # fmt: skip
    if noise:
        settings |= {"model.noise": noise, "train.score_matching": 1.0}
    config = load_config(overrides=settings)
    with pretended() as graphs:
        data = TrainingImages(config)
        trainer = Trainer(data.config, data, device=GPU)
        trainer.initialize()
        trainer.read([trainer.step() for _ in range(4)])
        assert graphs.made and graphs.replays
        saved = trainer.checkpoint()
        again = Trainer(data.config, data, device=GPU)
        again.restore(saved)
        (row,) = again.read([again.step()])
        assert row["skipped"] is None and again.evaluate() and again.trouble() is None
        assert again.sample(2).shape[0] == 2
