"""The posterior as a scikit-learn regressor: X are observations, y are parameters."""

from __future__ import annotations

import numpy as np
import torch

from ..errors import InnverseError, UsageError
from ..fitting.schedule import Schedule
from .fit import fit

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise InnverseError(
        'PosteriorRegressor needs scikit-learn: pip install "innverse[science]"'
    ) from None


class PosteriorRegressor(RegressorMixin, BaseEstimator):
    """Predicts not a number but a distribution: q(y | X) by `innverse.amortized.fit`.

    Works in pipelines, searches and cross-validation; ``score`` is R^2 of the posterior mean, as of
    every regressor. The fitted `Posterior` is ``posterior_``.

    Args:
        density, size, batch_size, lr, patience, max_epochs, minutes: as in `fit`.
        low, high: bounds of y, numbers or vectors, None where there is none.
        draws: of the posterior for each row, from which means and quantiles are taken.
        random_state: seed.
    """

    def __init__(
        self,
        density="nsf",
        size=None,
        low=None,
        high=None,
        batch_size=None,
        lr=1e-3,
        patience=Schedule.patience,
        max_epochs=1000,
        minutes=None,
        draws=500,
        random_state=0,
    ):
        self.density, self.size, self.low, self.high = density, size, low, high
        self.batch_size, self.lr, self.patience = batch_size, lr, patience
        self.max_epochs, self.minutes = max_epochs, minutes
        self.draws, self.random_state = draws, random_state

    def fit(self, X, y):
        """Learn from X (n, k) and y (n,) or (n, D); errors are those of `innverse.amortized.fit`."""
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        self._flat = y.ndim == 1
        self.posterior_ = fit(
            torch.from_numpy(np.ascontiguousarray(y)),
            torch.from_numpy(X),
            bounds=(self.low, self.high),
            density=self.density,
            size=self.size,
            batch_size=self.batch_size,
            lr=self.lr,
            patience=self.patience,
            max_epochs=self.max_epochs,
            minutes=self.minutes,
            seed=self.random_state,
            progress=False,
        )
        return self

    def sample_y(self, X, n_samples=1, random_state=None):
        """Draws (n, n_samples), or (n, D, n_samples) for several parameters, as scikit-learn's
        `GaussianProcessRegressor.sample_y`."""
        draws = self._draws(X, n_samples, random_state)
        return draws[..., 0].T if self._flat else draws.transpose(1, 2, 0)

    def predict(self, X, return_std=False, quantiles=None):
        """The posterior mean (n,) or (n, D); with ``return_std`` also the standard deviation; or
        with ``quantiles`` (q values in 0..1) an array (q, n) or (q, n, D)."""
        draws = self._draws(X, self.draws)
        if quantiles is not None:
            if return_std:
                raise UsageError("predict: ask for return_std or for quantiles, not both")
            values = np.quantile(draws, quantiles, axis=0)
            return values[..., 0] if self._flat else values
        mean, std = draws.mean(0), draws.std(0)
        mean, std = (t[..., 0] if self._flat else t for t in (mean, std))
        return (mean, std) if return_std else mean

    def _draws(self, X, n: int, random_state=None) -> np.ndarray:
        """(n, rows, D), the same at every call with the same seed."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        seed = self.random_state if random_state is None else random_state
        generator = torch.Generator().manual_seed(int(seed))
        draws = self.posterior_.sample_batched((n,), torch.from_numpy(X), generator=generator)
        return draws.double().numpy()
