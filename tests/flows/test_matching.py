"""Continuous flows by flow matching: solvers, densities, the training loss, the command line."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from innverse import flows
from innverse.bijections import check_bijection, initialize
from innverse.cli import train as command
from innverse.errors import InputError, UsageError
from innverse.flows import Flow
from innverse.flows.flow_matching import Integral
from innverse.train import read_metrics
from innverse.train.losses import Objective


def moved(shape, amount=0.1, **options):
    torch.manual_seed(0)
    flow = flows.build("flow_matching", shape, **options)
    for p in flow.bijection.layers[1].parameters():
        p.data.add_(torch.randn_like(p), alpha=amount)
    return flow.eval()


class Linear(torch.nn.Module):
    """v = (t + 1) A x: the flow is exp(3/2 A), the log-determinant 3/2 tr A."""

    a = torch.tensor([[0.3, -0.5, 0.1], [0.2, 0.1, 0.4], [0.0, 0.3, -0.6]], dtype=torch.float64)

    def forward(self, x, t, c=None):
        return (t[:, None] + 1) * x @ self.a.T


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_solvers_reach_the_matrix_exponential_at_their_order(method, order):
    z = torch.randn(4, 3, dtype=torch.float64)
    exact = z @ torch.linalg.matrix_exp(1.5 * Linear.a).T
    errors = []
    for evaluations in (32, 64, 128):
        x, logdet = Integral(Linear(), method, evaluations).inverse(z)
        errors.append((x - exact).abs().max().item())
        error = abs(logdet - 1.5 * Linear.a.trace()).max()
        assert error < (0.05 if method == "euler" else 1e-10)  # the integral of t + 1
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_the_estimated_divergence_is_unbiased_and_the_same_for_every_item():
    x = torch.randn(2, 3, dtype=torch.float64)
    few = Integral(Linear(), "heun", 32, exact_dims=2, probes=1)
    assert torch.equal(few(x)[1][:1], few(x[:1])[1])
    many = Integral(Linear(), "heun", 32, exact_dims=2, probes=4000)
    torch.testing.assert_close(many(x)[1], -1.5 * Linear.a.trace().expand(2), rtol=0, atol=0.05)


def test_the_bijection_keeps_the_contract_up_to_the_solver():
    flow = moved((3,), hidden=4, condition=2, evaluations=32)
    every = flow.bijection.requires_grad_(True)
    check_bijection(every, torch.randn(2, 3), torch.randn(2, 2), tol=2e-4)


@pytest.mark.parametrize(
    ("shape", "evaluations", "tol"), [((3,), 256, 1e-8), ((1, 4, 2), 64, 1e-4)]
)
def test_log_prob_is_the_change_of_variables(shape, evaluations, tol):
    flow = moved(shape, hidden=8, evaluations=evaluations).double()
    x = torch.randn(1, *shape, dtype=torch.float64)
    d = x.numel()
    j = torch.autograd.functional.jacobian(flow.encode, x).reshape(d, d)
    with torch.no_grad():
        z, found = flow.encode(x), flow.log_prob(x)
    expected = -0.5 * z.square().sum() - 0.5 * d * math.log(2 * math.pi)
    assert abs(found - expected - torch.linalg.slogdet(j)[1]) < tol


def test_density_in_two_dimensions_integrates_to_one():
    flow = moved((2,), 0.3, hidden=16, evaluations=32).double()
    axis = torch.linspace(-9, 9, 181, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = flow.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(float(mass) - 1) < 1e-3


def test_trained_on_a_gaussian_it_has_its_density_and_its_draws():
    torch.manual_seed(0)
    chol = torch.tensor([[1.5, 0.0], [-0.8, 0.4]])
    mean = torch.tensor([3.0, -1.0])
    target = torch.distributions.MultivariateNormal(mean, scale_tril=chol)
    flow = flows.build("flow_matching", (2,), hidden=64, depth=2, evaluations=32)
    initialize(flow, target.sample((2000,)))
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for _ in range(400):
        loss = flow.training_loss(target.sample((256,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    x = target.sample((1000,))
    flow.eval()
    with torch.no_grad():
        gap = target.log_prob(x) - flow.log_prob(x)
    assert gap.mean().abs() < 0.1  # the Kullback-Leibler divergence in nats
    for method, evaluations in (("euler", 50), ("heun", 20), ("rk4", 20)):
        drawn = flow.set_solver(method, evaluations).sample(2000)
        assert (drawn.mean(0) - mean).abs().max() < 0.25
        covariance = torch.cov(drawn.T)
        assert (covariance - chol @ chol.T).abs().max() < 0.4


def test_the_loss_draws_from_its_generator_and_leaves_the_units_alone():
    flow = moved((1, 4, 4), hidden=4)
    x = torch.rand(8, 1, 4, 4)
    initialize(flow, x)
    units = flow.bijection.layers[0]
    losses = [flow.training_loss(x, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    losses[0].backward()
    assert not any(p.requires_grad for p in units.parameters())
    torch.testing.assert_close(units.scale, x.double().std(correction=0)[None])


def test_condition_reaches_the_loss_and_the_density():
    flow = moved((2,), 0.3, hidden=8, condition=3)
    x, c = torch.randn(4, 2), torch.randn(4, 3)
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    assert flow.training_loss(x, c, seeds[0]) != flow.training_loss(x, c + 1, seeds[1])
    assert not torch.allclose(flow.log_prob(x, c), flow.log_prob(x, c + 1))
    with pytest.raises(InputError, match="needs condition"):
        flow.training_loss(x)


def test_images_of_any_size_and_saved_solvers(tmp_path):
    flow = moved((1, 8, 8), 0.05, hidden=4, evaluations=32)
    x = torch.rand(2, 1, 7, 10)
    with torch.no_grad():
        torch.testing.assert_close(flow.decode(flow.encode(x)), x, rtol=0, atol=1e-3)
        assert torch.equal(flow.log_prob(x), flow.log_prob(x))
    flow.set_solver("heun", 10).save_pretrained(tmp_path)
    loaded = Flow.from_pretrained(tmp_path)
    assert loaded.bijection.layers[1].extra_repr() == "heun, 10 evaluations"
    torch.testing.assert_close(loaded.log_prob(x), flow.log_prob(x))


def test_the_objective_matches_in_training_and_measures_the_likelihood_in_evaluation():
    flow = moved((1, 4, 4), hidden=4, evaluations=8)
    images = torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8)
    noise = torch.rand(images.shape)
    objective = Objective(flow)
    nll = objective(images, noise)[1]
    expected = -flow.log_prob(Objective.inputs(images, noise)).mean() / 16
    torch.testing.assert_close(nll, expected)
    flow.train()
    torch.manual_seed(3)
    loss, reported, _ = objective(images, noise)
    torch.manual_seed(3)
    assert loss == flow.training_loss(Objective.inputs(images, noise)) == reported


def test_trained_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:8, :8] / 7
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 40, 1, 1))
    np.save("pictures.npy", (127 + 60 * (a * x + b * y)).clip(0, 255).astype(np.uint8))
    settings = ["model.name=flow_matching", "model.hidden=8", "model.evaluations=8", "train.threads=1",
                "train.warmup=5", "train.ema=0.9", "train.log_every=1"]  # fmt: skip
    code = command.train(
        data="pictures.npy", channels=1, crop=8, batch_size=16, steps=60, lr=5e-3, set=settings,
        device="cpu", json=True, quiet=True,
    )  # fmt: skip
    outcome = json.loads(capsys.readouterr().out)
    assert code == 0 and outcome["complete"]
    assert 0 < outcome["held_out"]["bits_per_dim"] < 8  # the likelihood, not the loss
    rows = [
        row for row in read_metrics("runs/flow_matching/metrics.jsonl") if row["kind"] == "train"
    ]
    assert "bits_per_dim" not in rows[0]
    first, last = (np.mean([row["matching"] for row in part]) for part in (rows[:10], rows[-10:]))
    assert last < 0.8 * first
    assert type(Flow.from_pretrained(outcome["model"])) is flows.ContinuousFlow


def test_mistakes():
    with pytest.raises(UsageError, match="euler, heun, rk4"):
        flows.build("flow_matching", (2,), method="rk45")
    with pytest.raises(UsageError, match="multiple of 4"):
        flows.build("flow_matching", (2,), evaluations=30)
    with pytest.raises(UsageError, match="vectors"):
        flows.build("flow_matching", (2, 3))
    with pytest.raises(UsageError, match="no option 'noise'"):
        flows.build("flow_matching", (1, 8, 8), noise=(0.1, 0.2))
