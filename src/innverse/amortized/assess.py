"""Is a learned posterior right, and what does repair make of it? All checks on fresh pairs at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..metrics import calibration
from ..metrics.calibration import SBC, TARP, Coverage, Learned, Recalibration
from .checks import as_pairs
from .corrected import CorrectedPosterior, Correction

_CORRECTED = 20  # observations whose importance weights are looked at
_FEWEST = 40  # pairs, half of them for the repair


@dataclass(frozen=True)
class Checks:
    """The checks of one set of draws against the true parameters."""

    coverage: Coverage
    curve: Coverage
    """The same at twenty levels, to be drawn."""
    error: float
    """The median over all confidences (Ardizzone et al. 2018)."""
    sbc: SBC
    tarp: TARP

    @classmethod
    def of(cls, draws: Tensor, theta: Tensor) -> Checks:
        levels = [k / 20 for k in range(1, 20)]
        return cls(
            calibration.coverage(draws, theta),
            calibration.coverage(draws, theta, levels=levels),
            calibration.calibration_error(draws, theta),
            calibration.sbc(draws, theta),
            calibration.tarp(draws, theta),
        )

    def summary(self) -> dict[str, Any]:
        return {
            "levels": self.coverage.levels,
            "covered": self.coverage.covered,
            "covered_standard_error": self.coverage.standard_error,
            "coverage_error": self.coverage.error,
            "calibration_error": self.error,
            "sbc_p_values": self.sbc.p_values,
            "tarp_p_value": self.tarp.p_value,
        }


@dataclass(frozen=True)
class Assessment:
    """What `assess` gives; ``before`` and ``after`` conformal repair, on the same ``pairs``.

    Attributes:
        names: of the parameters.
        repair: what widens or narrows credible intervals, learned from as many other pairs.
        learned: posterior contraction and z-score.
        resimulation: mean squared distance of new simulations to the observation, (N,), and that of
            simulations at prior draws to it; None without a simulator.
        corrections: importance weights of some observations; None without a likelihood.
        draws, theta: of the first tested observations, to be looked at.

    Example:
        >>> theta = torch.rand(300, 1)
        >>> x = theta + 0.1 * torch.randn(300, 1)
        >>> posterior = fit(theta[:200], x[:200], max_epochs=1, progress=False)
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")  # of so few pairs
        ...     found = assess(posterior, theta[200:], x[200:], draws=20)
        >>> found.pairs, found.names, sorted(found.summary())[:3]
        (50, ['theta[0]'], ['after', 'before', 'checked_pairs'])
    """

    names: list[str]
    pairs: int
    before: Checks
    after: Checks
    repair: Recalibration
    learned: Learned
    resimulation: tuple[Tensor, Tensor] | None
    corrections: list[Correction] | None
    draws: Tensor
    theta: Tensor

    def summary(self) -> dict[str, Any]:
        """The numbers, for a JSON file."""
        numbers: dict[str, Any] = {
            "checked_pairs": self.pairs,
            "repair_pairs": self.repair.n,
            "repair_standard_error": self.repair.standard_error(self.before.coverage.levels),
            "before": self.before.summary(),
            "after": self.after.summary(),
            "contraction": self.learned.contraction.mean(0),
            "z_score_std": self.learned.z_score.std(0),
        }
        if self.resimulation is not None:
            posterior, prior = self.resimulation
            numbers["resimulation_error"] = posterior.median()
            numbers["resimulation_error_of_the_prior"] = prior.median()
        if self.corrections is not None:
            numbers["importance"] = {
                "efficiency": [c.efficiency for c in self.corrections],
                "pareto_k": [c.importance.pareto_k for c in self.corrections],
                "log_evidence": [c.importance.log_evidence for c in self.corrections],
            }
        return numbers


def assess(
    posterior,
    theta,
    x,
    *,
    names: list[str] | None = None,
    simulator: Callable | None = None,
    log_joint: Callable | None = None,
    draws: int = 500,
    generator: torch.Generator | None = None,
) -> Assessment:
    """Check a posterior on pairs (theta, x) that it was not trained on.

    Half of the pairs teach a conformal repair (`innverse.metrics.calibration.recalibrate`); the
    other half test coverage, SBC and TARP before and after it, contraction and z-score. A repair
    learned from fewer than 400 pairs draws a warning: it may be worse than none.

    Args:
        posterior: with ``sample((n,), x=)``, better also ``sample_batched``.
        theta, x: (N, D) and (N, ...), drawn from prior and simulator; N of at least 40.
        names: of the parameters; the posterior's own by default.
        simulator: theta (B, D) -> x (B, ...): draws are simulated again and compared to x.
        log_joint: log p(theta) + log p(x | theta), (B, D), x -> (B,): importance weights of up to
            twenty observations, their ESS, Pareto k and evidence.
        draws: of every posterior.

    Raises:
        InputError: too few pairs; ShapeError: shapes that do not fit.

    Example:
        >>> class Prior:
        ...     def sample(self, shape, x):
        ...         return torch.rand(*shape, 1)
        ...
        ...     def sample_batched(self, shape, x, generator=None):
        ...         return torch.rand(*shape, len(x), 1)
        >>> found = assess(Prior(), torch.rand(800, 1), torch.rand(800, 1), draws=50)
        >>> bool(found.before.error < 0.1)  # without a measurement the prior is right
        True
    """
    theta, x = as_pairs(theta, x)
    if len(theta) < _FEWEST:
        raise InputError(
            f"{len(theta)} pairs are too few to check a posterior: give at least {_FEWEST}, better "
            "some hundreds"
        )
    half = len(theta) // 2
    teaching = posterior.sample_batched((draws,), x[:half], generator=generator)
    tested = posterior.sample_batched((draws,), x[half:], generator=generator)
    repair = calibration.recalibrate(teaching, theta[:half])
    theta, x = theta[half:], x[half:]
    resimulation = None
    if simulator is not None:
        few = slice(0, 200)
        prior = theta[torch.randint(len(theta), (100, len(x[few])), generator=generator)]
        of_posterior, of_prior = (
            calibration.resimulation_error(t, x[few], simulator, generator=generator)
            for t in (tested[:100, few], prior)
        )
        resimulation = of_posterior, of_prior
    corrections = None
    if log_joint is not None:
        exact = CorrectedPosterior(posterior, log_joint)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            corrections = [exact.correct(row, generator=generator) for row in x[:_CORRECTED]]
    return Assessment(
        names=list(names or getattr(posterior, "names", None) or map(str, range(theta.shape[1]))),
        pairs=len(theta),
        before=Checks.of(tested, theta),
        after=Checks.of(repair.samples(tested), theta),
        repair=repair,
        learned=calibration.contraction(tested, theta),
        resimulation=resimulation,
        corrections=corrections,
        draws=tested[:, :2],
        theta=theta[:2],
    )
