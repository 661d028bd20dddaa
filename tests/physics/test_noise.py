"""Noise models, foreign ones too: what they draw has the deviations that they tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innverse import physics as P
from innverse.errors import ShapeError, UsageError
from innverse.physics.foreign_noise import as_noise, take_over

CLEAN = torch.linspace(0.1, 1, 4).view(1, 1, 1, 4).expand(2, 1, 3, 4)


def drawn_std(model, clean=CLEAN, draws=4000):
    y = model(clean.repeat(draws, 1, 1, 1), torch.Generator().manual_seed(0))
    return y.view(draws, *clean.shape).std(0)


MODELS = {
    "number": lambda: P.GaussianNoise(0.2),
    "(B, 1, H, W)": lambda: P.GaussianNoise(CLEAN / 5),
    "(1, 1, H, W)": lambda: P.GaussianNoise(CLEAN[:1] / 5),
    "(C, H, W)": lambda: P.GaussianNoise(CLEAN[0] / 5),
    "(H, W)": lambda: P.GaussianNoise(CLEAN[0, 0] / 5),
    "poisson": lambda: P.PoissonNoise(0.05),
    "poisson and gaussian": lambda: P.PoissonGaussianNoise(0.05, 0.1),
}


@pytest.mark.parametrize("name", MODELS)
def test_draws_have_the_deviation_that_the_model_tells(name):
    model = MODELS[name]()
    std = model.std(CLEAN).expand(CLEAN.shape)
    clean = CLEAN
    if name == "(B, 1, H, W)":  # one map per item of the batch
        clean = CLEAN[:1]
        model = model.select(torch.tensor([1]))
        std = std[1:]
    torch.testing.assert_close(drawn_std(model, clean), std, rtol=0.08, atol=0)
    torch.testing.assert_close(
        model.level(clean), std.square().flatten(1).mean(1).sqrt(), rtol=0.01, atol=0
    )


def test_no_digit_of_a_level_is_lost():
    exact = 1 / 3
    assert P.GaussianNoise(exact).sigma == exact
    assert P.GaussianNoise(torch.tensor([exact], dtype=torch.float64)).sigma.tolist() == [exact]
    assert P.GaussianNoise(np.array([exact])).sigma.tolist() == [exact]
    assert as_noise(np.float32(0.5)).sigma == 0.5


def test_infinite_noise_means_not_measured():
    sigma = torch.tensor([[0.1, torch.inf]])
    y = P.Denoising(sigma)(torch.ones(1, 1, 1, 2))
    assert y[0, 0, 0, 1] == 0 and y.isfinite().all()


def test_complex_noise_has_the_level_in_each_part():
    y = P.GaussianNoise(0.3)(torch.zeros(1, 100, 100, dtype=torch.complex64))
    assert abs(float(y.real.std()) - 0.3) < 0.02 and abs(float(y.imag.std()) - 0.3) < 0.02


@pytest.mark.parametrize(
    "bad",
    [-1.0, float("nan"), float("inf"), "loud", torch.tensor([0.1, -0.1]), torch.ones(0), True, 1j],
)
def test_a_level_that_is_none_is_refused(bad):
    with pytest.raises(UsageError) as e:
        P.Denoising(noise=bad)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), None, "x"])
def test_a_gain_that_is_none_is_refused(bad):
    with pytest.raises(UsageError, match="Poisson gain must be a positive number"):
        P.PoissonNoise(bad)


def test_maps_that_do_not_fit_are_refused():
    y = torch.zeros(2, 1, 4, 5)
    for shape in [(3,), (5,), (5, 4), (3, 1, 4, 5), (2, 1, 1, 4, 5)]:
        with pytest.raises(ShapeError, match="noise level of shape"):
            P.GaussianNoise(torch.ones(shape)).std(y)


# deepinv's classes, by their names and attributes


def foreign(name, draw=None, **attributes):
    made = {k: v if isinstance(v, bool) else torch.tensor(v) for k, v in attributes.items()}
    call = {"__call__": lambda self, x, *a: draw(x)} if draw else {}
    return type(name, (), {**made, **call})()


def _uniform(x):
    return x + 0.3 * (2 * torch.rand_like(x) - 1)


def _laplace(x):
    return x + torch.distributions.Laplace(0.0, 0.1).sample(x.shape)


def _gamma(x):
    return torch.distributions.Gamma(10.0, 10.0 / x).sample()


def _log_poisson(x):
    return -torch.log(torch.poisson(1000 * torch.exp(-0.5 * x)) / 1000) / 0.5


def _salt_and_pepper(x):
    return torch.where(torch.rand_like(x) < 0.2, (torch.rand_like(x) > 0.5).float(), x)


FOREIGN = {
    "GaussianNoise": foreign("GaussianNoise", sigma=0.2),
    "PoissonNoise": foreign("PoissonNoise", gain=0.05, normalize=True),
    "PoissonGaussianNoise": foreign("PoissonGaussianNoise", gain=0.05, sigma=0.1),
    "UniformNoise": foreign("UniformNoise", _uniform, a=0.3),
    "LaplaceNoise": foreign("LaplaceNoise", _laplace, b=0.1),
    "GammaNoise": foreign("GammaNoise", _gamma, l=10.0),
    "LogPoissonNoise": foreign("LogPoissonNoise", _log_poisson, mu=0.5, N0=1000.0),
    "SaltPepperNoise": foreign("SaltPepperNoise", _salt_and_pepper, p=0.1),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_noise_tells_the_deviation_that_it_draws(name):
    model = take_over(FOREIGN[name])
    # of a law that is not known the deviation is measured with few draws
    std = torch.stack([model.std(CLEAN).expand(CLEAN.shape) for _ in range(20)]).mean(0)
    torch.testing.assert_close(drawn_std(model), std, rtol=0.1, atol=0.005)


def test_foreign_levels_per_item_and_none():
    per_item = take_over(foreign("GaussianNoise", sigma=[0.1, 0.2]))
    assert per_item.std(CLEAN).flatten().tolist() == pytest.approx([0.1, 0.2])
    assert take_over(foreign("ZeroNoise")).sigma is None
    with pytest.raises(UsageError, match="cannot use Mystery as a noise model"):
        take_over(foreign("Mystery"))
