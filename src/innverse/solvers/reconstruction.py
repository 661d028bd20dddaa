"""What every solver returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import UsageError

if TYPE_CHECKING:
    from .problem import Problem


class SolveWarning(UserWarning):
    """A doubt about a result that `solve` returns all the same; also in ``Reconstruction.notes``.

    Example:
        >>> issubclass(SolveWarning, UserWarning)
        True
    """


@dataclass
class Reconstruction:
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
            divergences (B,), and sigma, the noise level of the prior that was sampled; of whose
            mean and std these are ("noisy" or "clean"), the space and the metric, curvature (B, 2) in
            it and condition (B,), and log_p of each draw (B, chains, n).
        options: of the method, as they were in force.
        method, reason: how, and why this method where ``method="auto"`` chose it.
        notes: per item, doubts in words: a region that is too large to be filled, a noise level or
            a scale that the data contradict, an estimated noise level.
        seconds: how long it took (the whole batch).

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

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Ends (B, C, H, W) of the interval that holds each pixel with probability ``level``.

        Raises:
            UsageError: the method gave no draws.
        """
        from .posterior.uncertainty import interval

        return interval(self._draws(), level)

    def probability(self, event: Callable[[Tensor], Tensor]) -> Tensor:
        """How probable (B,) what ``event`` says of images, (N, C, H, W) -> (N,) booleans, is.

        Raises:
            UsageError: the method gave no draws.
        """
        from .posterior.uncertainty import probability

        return probability(self._draws(), event)

    def _draws(self) -> Tensor:
        if self.samples is None:
            raise UsageError(f"method {self.method!r} gives no draws: solve with 'posterior'")
        return self.samples

    def __repr__(self) -> str:
        done = int(self.converged.sum())
        return (
            f"Reconstruction({self.method}: {len(self.x)} of {tuple(self.x.shape[1:])}, "
            f"{done} converged, residual {float(self.residual.max()):.2e}, {self.seconds:.1f} s)"
        )
