"""What every solver returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..errors import UsageError
from ..showing.shown import Shown

if TYPE_CHECKING:
    from ..physics import LinearPhysics
    from ..physics.noise import NoiseModel
    from .posterior.draws.uncertainty import Spread
    from .problem import Problem


class SolveWarning(UserWarning):
    """A doubt about a result that `solve` returns all the same; also in ``Reconstruction.notes``.

    Example:
        >>> issubclass(SolveWarning, UserWarning)
        True
    """


class Measured(NamedTuple):
    """Measurements (B, ...), their operator and their noise, on the caller's scale."""

    y: Tensor
    physics: LinearPhysics
    noise: NoiseModel


@dataclass(repr=False)
class Reconstruction(Shown):
    """Images reconstructed from measurements, item by item.

    Attributes:
        x: the images (B, C, H, W).
        z: their latents under the prior, or None where the method has none.
        std, samples: posterior spread (B, C, H, W) and draws (S, B, C, H, W), from the methods
            that sample; else None.
        log_prob: log p(x) of the prior in nats (B,), or None; with ``x_range``, of the image on the
            prior's own scale.
        residual: ||A x - y|| / ||y|| of each item (B,).
        noise: standard deviation of the noise that was given or estimated, on the scale of y (B,);
            None where it is unknown, or not one number per item.
        noise_ratio: root mean square of (A x - y) / noise (B,), or None: about 1 for a good image,
            less where the image follows the noise.
        trace: per iteration a dict of what the solver watched.
        converged: bool (B,): the iteration came to its end, everything is finite, and where the
            noise is known the residual is not more than it explains.
        status: per item a word on how it ended.
        evaluations: gradient or denoiser evaluations of each item (B,).
        diagnostics: of a sampler: r_hat, ess_bulk and ess_tail (B, C, H, W), acceptance and
            divergences (B,), and sigma, the noise level of the prior that was sampled, on the
            scale of x; of "posterior" also of whose mean and std these are ("noisy" or "clean"), the
            space and the metric, curvature (B, 2) in it and condition (B,), and log_p of each draw
            (B, chains, n); of draws that are only near the posterior, ``approximate`` says why.
        options: of the method, as they were in force.
        method, reason: how, and why this method where ``method="auto"`` chose it.
        notes: per item, doubts in words: a region that is too large to be filled, a noise level or
            a scale that the data contradict, an estimated noise level.
        measured: y, physics and noise as `solve` was given them.
        seconds: how long it took (the whole batch).

    A method with draws fills the error bars: `interval`, `quantiles`, `probability`, `spread`,
    `predictive_check`, `by_chain`, `to_arviz`. They are those of
    `quantity`.

    Example:
        >>> y = torch.rand(2, 1, 8, 8)
        >>> r = solve(y, innverse.physics.Denoising(noise=0.1), method="tv", lam=0.05)
        >>> r.x.shape, r.residual.shape, len(r.status)
        (torch.Size([2, 1, 8, 8]), torch.Size([2]), 2)
    """

    x: Tensor
    z: Tensor | None
    log_prob: Tensor | None
    residual: Tensor
    converged: Tensor
    status: list[str]
    evaluations: Tensor
    method: str
    seconds: float = 0.0
    trace: list[dict] = field(default_factory=list)
    std: Tensor | None = None
    samples: Tensor | None = None
    diagnostics: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    noise: Tensor | None = None
    noise_ratio: Tensor | None = None
    reason: str = ""
    notes: list[list[str]] = field(default_factory=list)
    measured: Measured | None = field(default=None, repr=False)

    @classmethod
    def of(cls, problem: Problem, x: Tensor, method: str, **more) -> Reconstruction:
        """Of a method that ends after its steps: all finite items have converged; `solve` judges
        the rest. ``more`` are other attributes."""
        finite = x.isfinite().flatten(1).all(1)
        usual: dict[str, Any] = {
            "z": None,
            "log_prob": None,
            "residual": problem.residual(x),
            "converged": finite,
            "status": ["converged" if ok else "failed: NaN or Inf" for ok in finite.tolist()],
            "evaluations": torch.zeros(problem.batch, dtype=torch.long),
        }
        return cls(x=x, method=method, **(usual | more))

    @property
    def latents(self) -> Tensor:
        """``z``, of a method that has it."""
        if self.z is None:
            raise UsageError(f"method {self.method!r} gives no latents")
        return self.z

    @property
    def z_norm(self) -> Tensor | None:
        """||z|| / sqrt(n) of each item (B,), near 1 for a typical draw of the prior; or None."""
        return None if self.z is None else self.z.flatten(1).square().mean(1).sqrt()

    @property
    def quantity(self) -> str:
        """What ``samples`` are draws of: "x", or with a noise-conditional prior "u = x + 0.02 e", the
        image plus noise N(0, I) of its level."""
        level = self.diagnostics.get("sigma")
        return "x" if level is None else f"u = x + {level:g} e"

    @property
    def quantity_of_mean(self) -> str:
        """What ``x`` and ``std`` are mean and deviation of: "x" where a sampler was asked for the
        clean image, else `quantity`."""
        return "x" if self.diagnostics.get("of") == "clean" else self.quantity

    @property
    def by_chain(self) -> Tensor:
        """The draws chain by chain, (chains, n, B, C, H, W).

        Raises:
            UsageError: the method gave no draws.
        """
        return self._draws().unflatten(0, (self.options.get("chains", 1), -1))

    def quantiles(self, q: float | Tensor) -> Tensor:
        """Of each pixel: at one q in [0, 1] (B, C, H, W), or at several (Q, B, C, H, W).

        Raises:
            UsageError: the method gave no draws, or a q beyond [0, 1].
        """
        from .posterior.draws.uncertainty import quantiles

        return quantiles(self._draws(), q)

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Ends (B, C, H, W) of the interval that holds each pixel with probability ``level``.

        Of `quantity_of_mean`: where mean and deviation are those of the clean image and the draws are
        not, it is the interval of the normal law with these.

        Raises:
            UsageError: the method gave no draws, or a level beyond (0, 1).
        """
        from .posterior.draws.uncertainty import interval, normal_interval

        draws = self._draws()
        if self.quantity != self.quantity_of_mean and self.std is not None:
            return normal_interval(self.x, self.std, level)
        return interval(draws, level)

    def probability(
        self,
        event: Callable[[Tensor], Tensor] | None = None,
        *,
        region: Tensor | None = None,
        above: float | Tensor | None = None,
        below: float | Tensor | None = None,
        by: str = "mean",
    ) -> Tensor:
        """How probable (B,) something is, as the share of draws of which it is true.

        Args:
            event: images (N, C, H, W) -> booleans (N,); or else
            region: a mask, true inside, (H, W), (C, H, W) or one per item (B, 1 or C, H, W): is it
                brighter than ``above``, and darker than ``below``? Each is a value, or the mask of
                another region to compare with: is there a lesion here?
            by: what is compared of a region, its "mean", "max" or "min".

        Raises:
            UsageError: the method gave no draws; neither an event nor a region with a bound.
            ShapeError: a mask or an answer of another shape.

        Example:
            >>> physics = innverse.physics.Denoising(noise=0.1)
            >>> flow = innverse.flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=4)
            >>> y = torch.rand(1, 1, 8, 8)
            >>> r = solve(y, physics, flow, "posterior", draws=20, chains=2, warmup=20, steps=4)
            >>> left = torch.arange(8).expand(8, 8) < 4
            >>> r.probability(region=left, above=-5.0), r.probability(region=left, above=left)
            (tensor([1.], dtype=torch.float64), tensor([0.], dtype=torch.float64))
        """
        from .posterior.draws.uncertainty import level_of_region, probability, share

        draws = self._draws()
        bounds = [b for b in (above, below) if b is not None]
        if (event is None) == (region is None) or (region is None) == bool(bounds):
            raise UsageError(
                "give an event, or a region and what it is to be above or below: "
                "probability(region=mask, above=0.5)"
            )
        if event is not None:
            return probability(draws, event)
        here = level_of_region(draws, region, by)

        def bound(value: float | Tensor) -> float | Tensor:
            return level_of_region(draws, value, by) if torch.as_tensor(value).dim() else value

        true = torch.ones_like(here, dtype=torch.bool)
        true &= here > bound(above) if above is not None else True
        true &= here < bound(below) if below is not None else True
        return share(true)

    def spread(self) -> Spread:
        """Standard deviations (B, C, H, W) of what A sees, and of what it does not, which is known
        from the prior alone: (seen, unseen).

        Raises:
            UsageError: the method gave no draws.
        """
        from .posterior.draws.uncertainty import spread

        return spread(self._draws(), self._measured().physics)

    def predictive_check(self, seed: int = 0) -> Tensor:
        """Posterior predictive p-values (B,): how often data measured anew from a draw are further
        from it than y is, in units of the noise (`innverse.metrics.calibration.predictive_check`).

        Near 0 the draws do not explain y: the operator, the noise level or the prior is wrong; near 1
        y is closer than its noise allows: the level is too high (Gelman, Meng & Stern 1996).

        Raises:
            UsageError: the method gave no draws, or the noise level is not known.
        """
        from .posterior.draws.predictive import check

        return check(self._draws(), *self._measured(), seed=seed)

    def to_arviz(self) -> Any:
        """The draws, chains apart, for ArviZ: a DataTree (ArviZ 1, or arviz-base), or the
        InferenceData of an ArviZ before 1.

        Raises:
            UsageError: the method gave no draws.
            InnverseError: ArviZ is not installed.
        """
        from .posterior.draws.export import to_arviz

        return to_arviz(self)

    def _draws(self) -> Tensor:
        if self.samples is None:
            raise UsageError(f"method {self.method!r} gives no draws: solve with 'posterior'")
        return self.samples

    def _measured(self) -> Measured:
        if self.measured is None:
            raise UsageError("this result does not know what was measured: it is not from solve()")
        return self.measured

    def plot(self, items: int = 3) -> Any:
        """A matplotlib figure of the first ``items``: what was measured, the image, its deviation.

        Raises:
            UsageError: nothing to draw. InnverseError: matplotlib is not installed.
        """
        from ..showing.figures import of_reconstruction

        return of_reconstruction(self, items)

    def _card(self):
        from ..showing.reconstruction import card

        return card(self)
