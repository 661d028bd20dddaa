"""The posterior that `innverse.amortized.fit` returns: one network for every observation."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InnverseError, InputError, ShapeError, warn
from ..fitting.schedule import History
from ..showing.shown import PairPlotted
from . import files
from .checks import any_true, as_floats, as_observations, as_shape
from .estimator import Estimator
from .novelty import TrainingRange

_FORMAT = files.form(
    "innverse-posterior",
    {"x_shape": list, "config": dict, "n_simulations": int, "n_excluded": int},
)
_CHUNK = 16_384  # draws computed together: what fits the cache


def _tracking(gradients: bool | None):
    """Whether a graph is made: as it is for None."""
    return contextlib.nullcontext() if gradients is None else torch.set_grad_enabled(gradients)


class Posterior(PairPlotted):
    """q(theta | x), amortised: training is done, any x takes milliseconds.

    Methods and shapes are those that ``sbi.diagnostics`` expects of a posterior (``sample``,
    ``sample_batched``, ``log_prob`` with ``x=``), so its functions take this object as it is.

    Attributes:
        names: of the parameters.
        x_shape: of one observation.
        n_simulations, n_excluded: used for training and testing; left out as NaN or infinite.
        history: of the training.

    Example:
        >>> theta = torch.rand(200, 2)
        >>> posterior = fit(theta, theta + 0.1, max_epochs=1, progress=False)
        >>> posterior.sample((5,), x=theta[0]).shape
        torch.Size([5, 2])
        >>> posterior.log_prob(theta[:3], x=theta[:3]).shape
        torch.Size([3])
    """

    def __init__(
        self,
        estimator: Estimator,
        training_range: TrainingRange,
        names: list[str],
        x_shape: tuple[int, ...],
        config: dict[str, Any],
        history: History | None = None,
        n_simulations: int = 0,
        n_excluded: int = 0,
    ):
        self.estimator = estimator.eval().requires_grad_(False)
        self.training_range = training_range
        self.names, self.x_shape, self.config = list(names), tuple(x_shape), dict(config)
        self.history = history
        self.n_simulations, self.n_excluded = n_simulations, n_excluded
        self.default_x: Tensor | None = None

    @property
    def n_parameters(self) -> int:
        """The number of weights."""
        return sum(p.numel() for p in self.estimator.parameters())

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """(low, high), each (D,), infinite where there is none."""
        region, dtype = self.estimator.transform.region, self.estimator.transform.dtype
        return region.low.to(dtype), region.high.to(dtype)

    def set_default_x(self, x) -> Posterior:
        """Let ``x`` be the observation wherever none is given; returns itself."""
        self.default_x = self._observations(x, one=True).detach()
        return self

    # ---- draws and density ------------------------------------------------------------------

    def sample(
        self,
        sample_shape=(),
        x=None,
        *,
        generator: torch.Generator | None = None,
        show_progress_bars: bool = False,
    ) -> Tensor:
        """Draws (*sample_shape, D) of q(theta | x) for one observation x, without gradient.

        They have the type of the parameters that were learned from, and lie strictly between their
        bounds.

        Args:
            sample_shape: (n,) for n draws, or n.
            x: ``x_shape`` or (1, *x_shape); arrays, tensors or lists of any real type.
            show_progress_bars: accepted for sbi; there is nothing to wait for.

        Raises:
            InputError, ShapeError: x is not one valid observation.
        """
        x = self._observations(x, one=True)
        return self.sample_batched(sample_shape, x, generator=generator).squeeze(-2)

    def sample_batched(
        self,
        sample_shape,
        x,
        *,
        generator: torch.Generator | None = None,
        max_sampling_batch_size: int = _CHUNK,
        show_progress_bars: bool = False,
    ) -> Tensor:
        """Draws (*sample_shape, B, D) for B observations x (B, *x_shape) at once."""
        x, shape = self._observations(x), as_shape(sample_shape)
        self._flag(x)
        with torch.no_grad():
            n = shape.numel() * len(x)
            draws = self._draw(self._features(x), n, generator, max_sampling_batch_size)
        return draws.reshape(*shape, len(x), draws.shape[-1])

    def log_prob(
        self, theta, x=None, *, track_gradients: bool | None = None, norm_posterior: bool = True
    ) -> Tensor:
        """log q(theta | x) in nats; -inf outside the bounds, whose ends belong to them.

        theta (..., D) and one observation x -> (...); or theta (B, D) and x (B, *x_shape), row by
        row -> (B,). It can be differentiated by theta and by x where they ask for it. With bounds
        so close to theta that its type cannot tell them apart, theta counts as the nearest number
        inside. On a simplex and for matrices it is the density of all but the last number, and of
        the lower triangle, as in torch.

        Args:
            track_gradients: None follows ``requires_grad``; False makes no graph, True makes one
                even under `torch.no_grad` (sbi's name).
            norm_posterior: accepted for sbi; the density is always normalised.

        Raises:
            InputError, ShapeError: theta or x do not fit; one line.
        """
        theta, x = self._parameters(theta), self._observations(x)
        lead = theta.shape[:-1]
        if len(x) != 1 and lead != (len(x),):
            raise ShapeError(
                f"theta {tuple(theta.shape)} and {len(x)} observations: give one observation, or "
                "one per row of theta (or use log_prob_batched)"
            )
        self._flag(x)
        with _tracking(track_gradients):
            rows = theta.reshape(-1, theta.shape[-1])
            return self._log_prob(rows, self._features(x).expand(len(rows), -1)).reshape(lead)

    def log_prob_batched(
        self, theta, x, *, track_gradients: bool | None = None, norm_posterior: bool = True
    ) -> Tensor:
        """log q(theta[..., i, :] | x[i]): theta (..., B, D), x (B, *x_shape) -> (..., B)."""
        theta, x = self._parameters(theta), self._observations(x)
        if theta.dim() < 2 or theta.shape[-2] != len(x):
            raise ShapeError(f"theta {tuple(theta.shape)} does not fit {len(x)} observations")
        with _tracking(track_gradients):
            c = self._features(x)
            c = c.expand(*theta.shape[:-1], c.shape[-1])
            values = self._log_prob(theta.reshape(-1, theta.shape[-1]), c.reshape(-1, c.shape[-1]))
        return values.reshape(theta.shape[:-1])

    def map(
        self,
        x=None,
        *,
        draws: int = 2000,
        starts: int = 8,
        generator: torch.Generator | None = None,
        show_progress_bars: bool = False,
    ) -> Tensor:
        """The most probable parameters (D,) for one observation x.

        The best ``starts`` of ``draws`` draws are improved by L-BFGS in unbounded coordinates;
        the density that is maximised is that of theta.
        """
        from ..optim.lbfgs import minimize

        x = self._observations(x, one=True).detach()
        self._flag(x)
        with torch.no_grad():
            c = self.estimator.features(x)
            rows = c.expand(draws, -1)
            u = self.estimator.density.sample(rows, generator)
            limit = u.abs().amax(0) + 1.0  # where bounds attract, u would run to infinity
            values = self._minus_log_prob(u, rows)
            u = u[values.argsort()[:starts]]

        def objective(u: Tensor) -> Tensor:
            over = (u.abs() - limit).clamp_min(0).square().sum(1)
            return self._minus_log_prob(u, c.expand(len(u), -1)) + 1e3 * over

        result = minimize(objective, u, max_iter=200)
        with torch.no_grad():
            best = objective(result.z).nan_to_num(nan=torch.inf).argmin()
            return self.estimator.transform.inverse(result.z[best : best + 1])[0]

    def rank(self, x=None) -> Tensor:
        """How usual observations are: the share of training simulations less likely than each.

        x (B, *x_shape) -> (B,); values near 0 say that x lies at the edge of the training data,
        see `TrainingRange`.
        """
        z = self.estimator.standardize(self._observations(x).detach())
        return self.training_range.rank(z)

    # ---- files ------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors into ``folder``.

        Raises:
            InnverseError: a summary network of one's own, whose structure no file can describe; or
                the folder cannot be written.
        """
        if not isinstance(self.config["summary"], str):
            raise InnverseError(
                "a posterior with a summary network of your own cannot be saved with its structure: "
                "save posterior.estimator.state_dict() with safetensors"
            )
        facts = {
            "names": self.names,
            "x_shape": list(self.x_shape),
            "default_x": None if self.default_x is None else self.default_x.tolist(),
            "config": self.config,
            "n_simulations": self.n_simulations,
            "n_excluded": self.n_excluded,
        }
        files.save(folder, _FORMAT, self._modules(), self.estimator.transform, self.history, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Posterior:
        """Read what `save` wrote; InputError when it is missing or damaged.

        Example:
            >>> theta = torch.rand(200, 2)
            >>> fit(theta, theta + 0.1, max_epochs=1, progress=False).save("posterior")
            >>> load("posterior").sample((5,), x=theta[0]).shape
            torch.Size([5, 2])
        """

        def build(made: dict[str, Any], history: History | None) -> Posterior:
            names, x_shape, config = made["names"], tuple(made["x_shape"]), made["config"]
            structure = (config[key] for key in ("density", "summary", "size"))
            estimator = Estimator(files.transform_of(made), x_shape, *structure)
            training_range = TrainingRange(int(torch.Size(x_shape).numel()))
            counts = made["n_simulations"], made["n_excluded"]
            return cls(estimator, training_range, names, x_shape, config, history, *counts)

        posterior, made = files.load(folder, _FORMAT, build, lambda p: p._modules())
        if (x := made.get("default_x")) is None:
            return posterior
        try:
            return posterior.set_default_x(x)
        except (InnverseError, TypeError, ValueError) as error:
            raise InputError(f"{folder}: default_x is no observation: {error}") from None

    # ---- to be looked at --------------------------------------------------------------------

    def _card(self):
        from ..showing.posterior import card

        return card(self)

    # ---- inside -----------------------------------------------------------------------------

    def _modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"estimator": self.estimator, "range": self.training_range})

    def _draw(self, c: Tensor, n: int, generator, chunk: int = _CHUNK) -> Tensor:
        """``n`` draws (n, D), the i-th for the features c[i % B]."""
        draws = c.new_empty(n, len(self.names), dtype=self.estimator.transform.dtype)
        for rows in torch.arange(n).split(max(int(chunk), 1)) if n else ():
            draws[rows] = self.estimator.sample(c[rows % len(c)], generator)
        return draws

    def _features(self, x: Tensor) -> Tensor:
        if not len(x):  # no network is asked about nothing
            return x.new_zeros(0, self.estimator.n_features, dtype=torch.float32)
        return torch.cat([self.estimator.features(rows) for rows in x.split(4096)])

    def _log_prob(self, theta: Tensor, c: Tensor) -> Tensor:
        if not len(theta):
            return c.new_zeros(0)
        parts = zip(theta.split(_CHUNK), c.split(_CHUNK))
        return torch.cat([self.estimator.log_prob(t, rows) for t, rows in parts])

    def _minus_log_prob(self, u: Tensor, c: Tensor) -> Tensor:
        """Of theta, at its unbounded coordinates u."""
        q = self.estimator
        return -(q.density.log_prob(u, c) + q.transform.log_det_at(u))

    def _parameters(self, theta) -> Tensor:
        theta = as_floats(theta, "theta")
        d = len(self.names)
        if theta.dim() == 0 and d == 1:
            theta = theta.reshape(1)
        if theta.dim() == 0 or theta.shape[-1] != d:
            raise ShapeError(
                f"theta must be (..., {d}), got {tuple(theta.shape)}: the parameters are "
                f"{', '.join(self.names)}"
            )
        if any_true(theta.detach().isnan()):
            raise InputError("theta contains NaN: no density belongs to it")
        return theta

    def _observations(self, x, one: bool = False) -> Tensor:
        """x as (B, *x_shape), valid; B = 1 with ``one``."""
        if x is None:
            if self.default_x is None:
                raise InputError("which observation? pass x=, or set_default_x(x) first")
            return self.default_x
        x = as_observations(x, self.x_shape)
        if one and len(x) != 1:
            raise ShapeError(
                f"x holds {len(x)} observations: give one, or use sample_batched((n,), x)"
            )
        return x

    def _flag(self, x: Tensor) -> None:
        """Warn of observations that the training did not prepare for."""
        x = x.detach()
        learned_for = self.default_x
        if "rounds" in self.config and (learned_for is None or not torch.equal(x, learned_for)):
            warn(
                "this posterior was learned in rounds for one observation and holds at no other: "
                "leave x out, or learn with fit",
            )
        z = self.estimator.standardize(x)
        far = self.training_range.far_outside(z)
        if any_true(far):
            worst = float(self.training_range.log_density(z[far]).min())
            some = f"{int(far.sum())} of {len(x)} observations lie"
            what = "the observation lies" if len(x) == 1 else some
            warn(
                f"{what} far outside the training data: log-density {worst:.4g}, rank 0 of "
                f"{self.n_simulations} simulations; the posterior there is a guess",
            )
