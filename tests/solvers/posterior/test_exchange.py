"""Chains that swap along noise levels reach modes that one chain does not leave."""

from __future__ import annotations

import pytest
import torch

import innverse
from innverse.errors import UsageError
from innverse.physics import Inpainting
from innverse.solvers.posterior.hmc import move
from innverse.solvers.posterior.metric import Metric
from innverse.solvers.posterior.modes.exchange import swap
from innverse.solvers.posterior.modes.ladder import Ladder, free_dimensions
from innverse.solvers.posterior.target import Target
from innverse.solvers.problem import Problem

from .mixture import SHAPE, WEIGHTS, Mixture, modes
from .test_hmc import Gaussian

NOISE, COLD, HOT = 0.05, 0.02, 0.2


def hole() -> tuple[Inpainting, torch.Tensor]:
    """The lowest row was not measured; both modes explain the rest."""
    mask = torch.ones(4, 4)
    mask[3] = 0
    g = torch.Generator().manual_seed(0)
    y = modes()[:1] + NOISE * torch.randn(1, *SHAPE, generator=g, dtype=torch.float64)
    return Inpainting(mask, noise=NOISE), mask * y


def bright(x: torch.Tensor) -> torch.Tensor:
    return (x[:, 0, 3].mean(1) > 0.5).double()


OPTIONS = {"sigma": COLD, "chains": 8, "warmup": 100, "steps": 4, "draws": 2400}


def test_both_modes_are_visited_as_often_as_they_weigh():
    physics, y = hole()
    init = modes()[:1]
    plain = innverse.solve(
        y, physics, Mixture(), "posterior", init=init, **OPTIONS | {"draws": 400}
    )
    stays = bright(plain.samples[:, 0]).view(8, -1)
    assert (stays == stays[:, :1]).all()  # each in the mode in which it began
    found = innverse.solve(y, physics, Mixture(), "exchange", top=HOT, init=init, **OPTIONS)
    share = bright(found.samples[:, 0]).view(8, -1)
    size = innverse.metrics.chains.effective_size(share[..., None]).item()
    error = (WEIGHTS.prod() / size).sqrt()
    assert size > 40 and abs(share.mean() - WEIGHTS[1]) < 3.5 * error
    assert found.diagnostics["round_trips"].item() >= 20
    assert found.diagnostics["r_hat"].max() < 1.2
    levels, swaps = found.diagnostics["levels"][0], found.diagnostics["swaps"][0]
    assert levels[0] == COLD and levels[-1].item() == pytest.approx(HOT)
    assert (levels.diff() > 0).all() and swaps.min() > 0.2 and swaps.max() < 0.9
    assert found.x.shape == (1, *SHAPE) and found.samples.shape == (2400, 1, *SHAPE)
    assert found.method == "exchange" and found.diagnostics["sigma"] == COLD


def stationary(mutant: bool) -> torch.Tensor:
    """z-scores after some transitions that began at exact draws of every level."""
    physics, y = hole()
    chains, count, g = 1500, 4, torch.Generator().manual_seed(1)
    ladder = Ladder(torch.tensor([[0.02, 0.06, 0.12, 0.3]], dtype=torch.float64), chains)
    prior = Mixture(ladder.by_row(ladder.levels))
    n = ladder.rows
    target = Target(prior, physics, y.expand(n, -1, -1, -1), torch.full((n,), NOISE).double())
    metric = Metric(target, prior.c)
    mask = physics.mask.double()
    point = target.at(prior.exact(mask, y, NOISE, g))
    for k in range(6):
        e = torch.randn(point.u.shape, generator=g, dtype=torch.float64)
        p = metric.momenta(e, torch.randn(point.u.shape, generator=g, dtype=torch.float64))
        uniform = torch.rand(n, generator=g, dtype=torch.float64)
        step = torch.full((n,), 0.5, dtype=torch.float64)
        point = move(target, metric, point, p, uniform, step, 3).point
        uniform = torch.rand(n, generator=g, dtype=torch.float64) * (not mutant)
        pairs = ("even", "odd")[k % 2]
        point, swapped = swap(target, point, ladder.partners(pairs), uniform)
        ladder.follow(ladder.partners(pairs), swapped)
    exact = prior.exact(mask, y, NOISE, g)

    def statistics(u):
        pixel = u[:, 0, 0, 1]
        spread = (u - modes().mean(0)).square()[:, 0, 3].mean(1)
        return torch.stack((bright(u), pixel, spread, prior.log_prob(u))).view(4, chains, count)

    a, b = statistics(point.u), statistics(exact)
    return ((a.mean(1) - b.mean(1)) / ((a.var(1) + b.var(1)) / chains).sqrt()).abs()


def test_calibration_of_swaps_that_leave_exact_draws_of_all_levels_exact():
    assert stationary(mutant=False).max() < 4
    assert stationary(mutant=True).max() > 8


def test_images_are_swapped_between_neighbours_only_and_round_trips_are_counted():
    ladder = Ladder(torch.tensor([[0.1, 0.2, 0.4]]).double(), 1)
    assert ladder.partners("even").tolist() == [1, 0, 2]
    assert ladder.partners("odd").tolist() == [0, 2, 1]
    yes = torch.ones(3, dtype=torch.bool)
    for k in range(6):  # one image goes up in three moves and down in three
        partner = ladder.partners(("even", "odd")[k % 2])
        ladder.follow(partner, yes & (partner != torch.arange(3)))
    assert ladder.trips.tolist() == [1] and (ladder.rejection == 0).all()


def test_levels_are_spaced_by_what_was_refused():
    ladder = Ladder(torch.tensor([[0.1, 0.2, 0.4, 0.8]], dtype=torch.float64), 2)
    ladder._tried, ladder._refused = (
        torch.full((1, 3), 10.0).double(),
        torch.tensor([[2.0, 2, 8]]).double(),
    )
    ladder.space_anew()
    # shares of .2, .2, .8 of 1.2: a third lies at .4, two thirds in the middle of the last pair
    want = torch.tensor([[0.1, 0.4, 0.4 * 2**0.5, 0.8]], dtype=torch.float64)
    assert torch.allclose(ladder.levels, want)


def test_the_dimension_that_data_leave_free():
    physics, y = hole()
    problem = Problem.build(y, physics, Mixture())
    assert free_dimensions(problem, 1e-6) == pytest.approx(16)
    assert free_dimensions(problem, 1e4) == pytest.approx(4)
    levels = Ladder.spaced(problem, 0.02, 0.32, None, 2).levels[0]
    apart = (levels[1:] / levels[:-1]).log()
    free = free_dimensions(problem, 0.08)
    assert torch.allclose(apart, apart[0]) and 0.6 < apart[0] * free**0.5 < 0.9


def test_an_item_gets_the_same_draws_alone_and_in_a_batch():
    physics, y = hole()
    both = torch.cat((y, y + 0.01 * physics.mask))
    few = {"levels": 3, "draws": 8, "chains": 2, "warmup": 10, "steps": 2, "top": HOT}
    init = modes()
    together = innverse.solve(both, physics, Mixture(), "exchange", init=init, **few)
    alone = innverse.solve(both[1:], physics, Mixture(), "exchange", init=init[1:], **few)
    assert torch.allclose(together.samples[:, 1], alone.samples[:, 0], atol=1e-8)
    assert not together.converged.any()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"top": 0.01}, "top=0.01"), ({"levels": 1}, "levels=1")],
)
def test_what_makes_no_ladder_is_said_in_one_line(options, words):
    physics, y = hole()
    few = {"init": modes()[:1], "draws": 8, "chains": 2, "warmup": 2, "steps": 1, "levels": 2}
    with pytest.raises(UsageError, match=words) as caught:
        innverse.solve(y, physics, Mixture(), "exchange", **(few | options))
    assert "\n" not in str(caught.value)


def test_a_prior_without_levels_and_noise_that_is_unknown_are_refused():
    physics, y = hole()
    with pytest.raises(UsageError, match="knows no noise levels"):
        innverse.solve(y, physics, Gaussian(), "exchange")
    with pytest.raises(UsageError, match="needs the noise level"):
        innverse.solve(y, Inpainting(physics.mask), Mixture(), "exchange")
