"""What every solver returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


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
            divergences (B,), and sigma, the noise level of the prior that was sampled.
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
    noise: Tensor | None = None
    noise_ratio: Tensor | None = None
    reason: str = ""
    notes: list[list[str]] = field(default_factory=list)

    @property
    def z_norm(self) -> Tensor | None:
        """||z|| / sqrt(n) of each item (B,), near 1 for a typical draw of the prior; or None."""
        return None if self.z is None else self.z.flatten(1).square().mean(1).sqrt()

    def __repr__(self) -> str:
        done = int(self.converged.sum())
        return (
            f"Reconstruction({self.method}: {len(self.x)} of {tuple(self.x.shape[1:])}, "
            f"{done} converged, residual {float(self.residual.max()):.2e}, {self.seconds:.1f} s)"
        )
