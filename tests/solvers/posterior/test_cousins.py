"""The approximate posteriors where the exact one is known: independent normal pixels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from innverse import solve
from innverse.bijections import Bijection
from innverse.errors import UsageError
from innverse.flows import Flow
from innverse.physics import Blur, Denoising, Inpainting, PoissonNoise, gaussian_kernel
from innverse.solvers import AmortisedPosterior

sys.path.append(str(Path(__file__).parents[2]))
from gaussian_prior import S, gaussian_prior

SHAPE, SIGMA, NOISE = (1, 8, 8), 0.2, 0.1
BEFORE = S**2 + SIGMA**2  # variance of a pixel under the prior at SIGMA


def measured(batch: int = 2):
    """Pictures drawn from the prior, and half of their pixels with noise."""
    g = torch.Generator().manual_seed(0)
    x = 0.5 + BEFORE**0.5 * torch.randn(batch, *SHAPE, generator=g)
    physics = Inpainting.random(SHAPE, 0.5, g, noise=NOISE)
    return physics(x, g), physics


def exact(y, mask, noise=NOISE):
    """Mean and variance of every pixel."""
    variance = 1 / (1 / BEFORE + mask / noise**2)
    return variance * (0.5 / BEFORE + mask * y / noise**2), variance


class Answer(Bijection):
    """The exact posterior as a conditional flow, from A^T y, the mask and log s; ``wide`` times its
    standard deviation."""

    def __init__(self, wide: float = 1.0):
        super().__init__()
        self.wide = wide

    def _known(self, c):
        mean, variance = exact(c[:, :1], c[:, 1:2], c[:, 2:].exp())
        return mean, self.wide * variance.sqrt()

    def forward(self, x, c=None):
        mean, std = self._known(c)
        return (x - mean) / std, -std.log().flatten(1).sum(1)

    def inverse(self, z, c=None):
        mean, std = self._known(c)
        return mean + std * z, std.log().flatten(1).sum(1)


def answers(wide: float = 1.0, physics: str = "inpainting", noise=(0.05, 0.2)) -> Flow:
    flow = Flow(Answer(wide), SHAPE, condition=3)
    told = {"physics": physics, "options": {}, "noise": list(noise), "sigma": SIGMA}
    flow.measurement = told
    return flow.eval()


def off(result, y, physics):
    """Errors of mean and standard deviation, in standard errors of the draws."""
    mean, variance = exact(y, physics.mask)
    n = len(result.samples)
    of_mean = (result.x - mean) / (variance / n).sqrt()
    of_std = (result.std / variance.sqrt() - 1) / (0.5 / n) ** 0.5
    return of_mean, of_std


# ---- Langevin ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "memory"), [(0.5, 0.8), (1.2, 0.0), (1.2, 0.8)])
def test_langevin_draws_are_as_wide_as_its_steps_make_them(step, memory):
    """The stationary variance of leapfrog steps h is 1 / (k (1 - h^2 k / 4)), k the curvature."""
    y, physics = measured()
    more = {"sigma": SIGMA, "draws": 500, "chains": 500, "levels": 3, "steps": 50}
    r = solve(y, physics, gaussian_prior(), "langevin", step=step, memory=memory, **more)
    mean, variance = exact(y, physics.mask)
    k = 1 / variance / (physics.mask / NOISE**2 + 1 / SIGMA**2)  # in the metric M
    wide = (variance / (1 - step**2 * k / 4)).sqrt().expand_as(y)
    assert ((r.x - mean) / wide * 500**0.5).abs().max() < 4.5
    assert (r.std / wide - 1).abs().max() < 4.5 * (0.5 / 500) ** 0.5
    blur = (r.std / variance.sqrt()).mean()
    assert blur > 1.1 if step == 1.2 else blur < 1.05


def test_langevin_says_that_it_is_approximate_and_when_it_has_not_arrived():
    y, physics = measured()
    prior = gaussian_prior()
    r = solve(y, physics, prior, "langevin", sigma=SIGMA, levels=4, steps=40)
    assert r.diagnostics["approximate"] == "unadjusted Langevin"
    assert r.reason.endswith("approximate: unadjusted Langevin")
    assert all("the draws are approximate: unadjusted Langevin" in row for row in r.notes)
    assert r.samples.shape == (64, *y.shape) and r.diagnostics["sigma"] == SIGMA
    assert all("approximate" in s for s in r.status), r.status
    short = solve(y, physics, prior, "langevin", sigma=0.05, levels=1, steps=1, step=1.0, draws=160)
    assert not short.converged.any() and all("log p still moves" in s for s in short.status)
    lost = solve(y, physics, prior, "langevin", sigma=SIGMA, steps=200, step=9.0)
    assert not lost.converged.any() and all(s.startswith("failed") for s in lost.status)


def test_langevin_takes_a_density_without_noise_levels():
    y, physics = measured()
    r = solve(
        y, physics, gaussian_prior(False), "langevin", draws=400, chains=400, levels=1, steps=40
    )
    variance = 1 / (1 / S**2 + physics.mask / NOISE**2)
    assert r.diagnostics["sigma"] is None
    assert (r.std / variance.sqrt() - 1).abs().max() < 0.2


# ---- a second flow -------------------------------------------------------------------------------


def log_evidence(y, mask):
    """Of the pixels that are known, without the constant of the noise."""
    total = BEFORE + NOISE**2
    log_p = -0.5 * ((y - 0.5) ** 2 / total + torch.log(torch.tensor(total / NOISE**2)))
    return (mask * log_p).flatten(1).sum(1)


def test_variational_inference_finds_a_normal_posterior_and_its_evidence():
    y, physics = measured()
    more = {"sigma": SIGMA, "layers": 0, "draws": 200, "steps": 200, "samples": 16}
    r = solve(y, physics, gaussian_prior(), "variational", **more)
    mean, variance = exact(y, physics.mask)
    assert ((r.x - mean) / variance.sqrt()).abs().max() < 0.35
    assert (r.std / variance.sqrt() - 1).abs().max() < 0.35
    evidence = log_evidence(y, physics.mask)
    assert (r.diagnostics["elbo"] < evidence + 0.5).all(), "a lower bound"
    assert (r.diagnostics["elbo"] > evidence - 2.5).all()
    assert (r.diagnostics["ess"] > 40).all() and (r.diagnostics["pareto_k"] < 0.7).all()
    assert all(s == "approximate: variational, by a second flow" for s in r.status)


def test_the_density_of_the_second_flow_is_exact():
    from innverse.solvers.posterior.approximate.variational import _Second

    torch.manual_seed(0)
    q = _Second(torch.randn(1, 4, 4), layers=3, hidden=4).double()
    for p in q.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    e = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    _, log_q = q(e)
    jacobian = torch.stack(
        [torch.autograd.functional.jacobian(lambda v: q(v[None])[0].flatten(), row) for row in e]
    )
    log_det = jacobian.reshape(3, 16, 16).slogdet().logabsdet
    base = torch.distributions.Normal(0, 1).log_prob(e).flatten(1).sum(1)
    torch.testing.assert_close(log_q, base - log_det)


# ---- a conditional flow ---------------------------------------------------------------------------


def test_a_flow_that_knows_the_posterior_is_the_posterior():
    y, physics = measured()
    r = solve(y, physics, answers(), "amortised", draws=2000, against=gaussian_prior())
    of_mean, of_std = off(r, y, physics)
    assert of_mean.abs().max() < 4.5 and of_std.abs().max() < 4.5
    assert r.diagnostics["ess"].min() > 1999, "all weights are equal"
    assert r.converged.all() and set(r.status) == {"converged: corrected by importance weights"}
    mean, variance = exact(y, physics.mask)
    draws = AmortisedPosterior(answers(), physics).sample(3, y)
    want = torch.distributions.Normal(mean, variance.sqrt()).log_prob(draws).flatten(2).sum(2)
    for x, log_q in ((draws, want), (draws[0], want[0])):
        found = AmortisedPosterior(answers(), physics).log_prob(x, y)
        torch.testing.assert_close(found, log_q, rtol=1e-5, atol=1e-4)


def test_weights_correct_a_flow_that_is_a_little_off_and_tell_of_one_that_is_far_off():
    y, physics = measured()
    plain = solve(y, physics, answers(1.07), "amortised", draws=4000)
    right = solve(y, physics, answers(1.07), "amortised", draws=4000, against=gaussian_prior())
    assert right.converged.all() and (right.diagnostics["pareto_k"] < 0.7).all()
    std = exact(y, physics.mask)[1].sqrt()
    assert (plain.std / std).mean() > 1.06
    assert (right.std / std).mean() == pytest.approx(1, abs=0.02)
    assert (right.samples.std(0) / std).mean() == pytest.approx(1, abs=0.04)
    assert plain.status == ["approximate: amortised, by a conditional flow"] * 2
    narrow = solve(y, physics, answers(0.5), "amortised", draws=400, against=gaussian_prior())
    alone = solve(y, physics, answers(0.5), "amortised", draws=400)
    assert not narrow.converged.any() and all("Pareto k" in s for s in narrow.status)
    assert torch.equal(narrow.samples, alone.samples), "left as they were"


def test_an_item_gets_the_same_draws_alone_and_in_a_batch():
    y, physics = measured(3)
    for method, prior in (("amortised", answers()), ("langevin", gaussian_prior())):
        few = {"draws": 6} | ({"levels": 2, "steps": 3} if method == "langevin" else {})
        whole = solve(y, physics, prior, method, **few)
        alone = solve(y[1:2], physics, prior, method, **few)
        torch.testing.assert_close(alone.samples[:, 0], whole.samples[:, 1])


def test_masks_and_noise_may_differ_from_item_to_item():
    g = torch.Generator().manual_seed(0)
    physics = Inpainting((torch.rand(2, *SHAPE, generator=g) < 0.5).float())
    noise = torch.tensor([0.05, 0.2])
    y = physics(torch.full((2, *SHAPE), 0.4)) + 0.01
    r = solve(y, physics, answers(), "amortised", draws=2000, noise=noise)
    _, variance = exact(y, physics.mask, noise.view(2, 1, 1, 1))
    assert (r.std / variance.sqrt() - 1).abs().max() < 0.1


def test_auto_takes_the_model_at_its_word_and_other_methods_refuse_it():
    y, physics = measured()
    assert solve(y, physics, answers()).method == "amortised"
    for method in ("pnp", "posterior", "latent", "map"):
        with pytest.raises(UsageError, match="take method 'amortised'"):
            solve(y, physics, answers(), method)
    with pytest.raises(UsageError, match=r"trained to answer measurements, with \[condition\]"):
        solve(y, physics, gaussian_prior(), "amortised")


WHOLE, ONE = Inpainting(torch.ones(8, 8)), "needs one noise level"


@pytest.mark.parametrize(
    ("physics", "noise", "words"),
    [
        (WHOLE, 0.3, "trained for noise of 0.05 to 0.2, and y has 0.3"),
        (WHOLE, None, ONE),
        (WHOLE, PoissonNoise(0.02), ONE),
        (
            Inpainting(torch.ones(8, 8)),
            torch.linspace(0.05, 0.2, 8).expand(8, 8),
            "needs one noise level",
        ),
        (Blur(gaussian_kernel(1.0)), 0.1, "trained for inpainting, and A is Blur"),
        (Denoising(), 0.1, "trained for inpainting, and A is Denoising"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, torch.nn.Module) else None,
)
def test_what_the_model_has_not_seen_is_refused(physics, noise, words):
    with pytest.raises(UsageError, match=words):
        solve(torch.full((1, *SHAPE), 0.5), physics, answers(), "amortised", noise=noise)


def test_another_scale_gives_the_same_draws_on_that_scale():
    y, physics = measured()
    low, high = -1000.0, 1000.0
    span = high - low
    other = low * physics.mask + span * y
    unit = solve(y, physics, answers(), "amortised", draws=8)
    far = solve(
        other, physics, answers(), "amortised", draws=8, noise=NOISE * span, x_range=(low, high)
    )
    assert far.std.mean() == pytest.approx(span * float(unit.std.mean()), rel=0.2)
    residual = (physics.mask * (far.x - other)).abs().max()
    assert residual < 4 * NOISE * span


def test_fewer_draws_than_chains_of_langevin_stay_apart():
    y = torch.rand(1, 1, 8, 8)
    options = {"noise": S, "draws": 4, "chains": 16, "levels": 1, "steps": 1}
    found = solve(y, Denoising(), gaussian_prior(), "langevin", **options)
    assert found.by_chain.shape[:2] == (4, 1)
