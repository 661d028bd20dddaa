"""Which model explains the data: log p(y) of a prior, an operator and a noise level."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ....errors import ShapeError
from ...reconstruction import Reconstruction
from ...solve import solve


@dataclass
class Evidence:
    """log p(y) of each item under one model, in nats.

    Attributes:
        log_evidence, error: its estimate (B,) and the standard error of that.
        reconstruction: the draws of the posterior that came with it.

    Example:
        >>> low, high = torch.tensor([-3.0]), torch.tensor([-1.0])
        >>> a, b = Evidence(high, 0.3 + 0 * high, None), Evidence(low, 0.4 + 0 * low, None)
        >>> factor, error = a.against(b)
        >>> round(float(factor), 3), round(float(error), 3)
        (2.0, 0.5)
    """

    log_evidence: Tensor
    error: Tensor
    reconstruction: Reconstruction | None

    def against(self, other: Evidence) -> tuple[Tensor, Tensor]:
        """The log Bayes factor of this model against another of the same data (B,), and its error.

        Above 0 the data speak for this one; 3 nats are odds of 20 to 1.

        Raises:
            ShapeError: evidences of different numbers of items.
        """
        if self.log_evidence.shape != other.log_evidence.shape:
            raise ShapeError(
                f"evidences of {len(self.log_evidence)} and {len(other.log_evidence)} items: "
                "compare models on the same data"
            )
        error = (self.error.square() + other.error.square()).sqrt()
        return self.log_evidence - other.log_evidence, error


def evidence(y: Tensor, physics, prior, *, noise=None, **options) -> Evidence:
    """log p(y) under a prior, an operator and a noise level, by tempered sequential Monte Carlo.

    Two priors, operators or noise levels are compared by ``against``. A noise-conditional prior is
    that of an image plus noise of the level ``sigma``: compare such at one sigma. Noise that depends
    on the signal is taken as Gaussian of an estimated deviation, photon counts as they are.

    Args:
        y, physics, prior, noise: as in `innverse.solve`.
        options: of the method "smc" and of `innverse.solve`; the density is that of y in its own
            units, also with ``x_range``.

    Raises:
        UsageError: no noise level, or a prior without a density or draws. Otherwise as `solve`.

    Example:
        >>> flow = innverse.flows.build("realnvp", (1, 8, 8), levels=1, hidden=4)
        >>> y = flow.sample(1)
        >>> few = {"draws": 16, "runs": 2, "effective": 0.3}
        >>> model = evidence(y, innverse.physics.Denoising(noise=0.5), flow, **few)
        >>> model.log_evidence.shape, model.error.shape
        (torch.Size([1]), torch.Size([1]))
    """
    found = solve(y, physics, prior, "smc", noise=noise, **options)
    known = found.diagnostics
    return Evidence(known["log_evidence"], known["log_evidence_error"], found)
