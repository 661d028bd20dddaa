"""The scikit-learn side of a posterior."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from innverse.amortized import PosteriorRegressor
from innverse.errors import InputError, UsageError

QUICK = {"density": "realnvp", "size": {"layers": 2, "width": 16}, "max_epochs": 15, "lr": 5e-3}


def pairs(n: int = 600):
    g = np.random.default_rng(0)
    y = g.normal(size=(n, 2))
    return y + 0.5 * g.normal(size=(n, 2)), y


def test_mean_spread_quantiles_and_draws():
    """theta ~ N(0, I), x = theta + N(0, I / 4): the posterior is N(0.8 x, 0.2 I)."""
    X, y = pairs()
    model = PosteriorRegressor(**QUICK).fit(X, y)
    mean, std = model.predict(X[:50], return_std=True)
    assert mean.shape == std.shape == (50, 2)
    assert np.abs(mean - 0.8 * X[:50]).mean() < 0.15 and 0.3 < std.mean() < 0.65
    low, high = model.predict(X[:50], quantiles=[0.1, 0.9])
    assert (low < mean).all() and (mean < high).all()
    assert model.sample_y(X[:5], 7).shape == (5, 2, 7)
    assert (model.predict(X[:5]) == model.predict(X[:5])).all()
    assert 0.6 < model.score(X, y) < 0.9  # the exact posterior's mean has 0.8
    assert clone(model).get_params() == model.get_params()


@pytest.mark.filterwarnings("ignore:.*far outside")  # 150 simulations do not reach far
def test_one_parameter_in_a_pipeline_and_cross_validation():
    X, y = pairs(300)
    model = make_pipeline(StandardScaler(), PosteriorRegressor(low=-9.0, high=9.0, **QUICK))
    model.fit(X, y[:, 0])
    assert model.predict(X).shape == (300,)
    assert model[-1].sample_y(X[:4], 3).shape == (4, 3)
    assert model[-1].predict(X[:4], quantiles=[0.5]).shape == (1, 4)
    scores = cross_val_score(PosteriorRegressor(**QUICK), X, y[:, 0], cv=2)
    assert scores.shape == (2,) and scores.min() > 0


def test_mistakes_are_said():
    X, y = pairs(300)
    with pytest.raises(NotFittedError):
        PosteriorRegressor().predict(X)
    with pytest.raises(InputError, match="at least"):
        PosteriorRegressor().fit(X[:10], y[:10])
    model = PosteriorRegressor(**QUICK | {"max_epochs": 1}).fit(X, y)
    with pytest.raises(UsageError, match="not both"):
        model.predict(X, return_std=True, quantiles=[0.5])
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :1])
