"""Our sampler in the manners of deepinv's ``BaseSampling``: (y, physics) -> mean and variance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ....errors import UsageError
from ...reconstruction import Reconstruction
from ...solve import solve

__all__ = ["DeepinvSampler"]


class DeepinvSampler(nn.Module):
    """Draws of p(x | y) where deepinv (0.5) expects one of its samplers, such as ULA.

    ``sampler(y, physics)`` and ``sampler.sample(y, physics)`` return the posterior mean and variance
    (B, C, H, W), whatever operator of deepinv or innverse ``physics`` is; `get_chain` has the draws.

    Args:
        prior: a density; see `innverse.solve`.
        mean_only: ``sampler(y, physics)`` returns the mean alone, which is what deepinv's Trainer and
            ``deepinv.test`` want of a reconstructor.
        options: of `innverse.solve` with ``method="posterior"``: draws, chains, noise, ...

    Attributes:
        result: the last `Reconstruction`.

    Example:
        >>> flow = innverse.flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=4)
        >>> sampler = DeepinvSampler(flow, draws=8, chains=2, warmup=2, steps=2)
        >>> physics = innverse.physics.Denoising(noise=0.1)
        >>> mean, variance = sampler(torch.rand(1, 1, 8, 8), physics)
        >>> mean.shape, len(sampler.get_chain())
        (torch.Size([1, 1, 8, 8]), 8)
    """

    def __init__(self, prior, mean_only: bool = False, **options: Any):
        super().__init__()
        self.prior, self.mean_only, self.options = prior, mean_only, options
        self.result: Reconstruction | None = None

    def forward(self, y: Tensor, physics, x_init: Tensor | None = None, seed: int | None = None):
        """(mean, variance), or the mean (``mean_only``)."""
        mean, variance = self.sample(y, physics, x_init, seed)
        return mean if self.mean_only else (mean, variance)

    def sample(
        self,
        y: Tensor,
        physics,
        x_init: Tensor | None = None,
        seed: int | None = None,
        g_statistics: Callable | Sequence[Callable] = lambda d: d["x"],
    ) -> tuple[Any, Any]:
        """Mean and variance of each statistic of the draws, which takes {"x": images (B, C, H, W)}:
        two tensors, or two lists of them for several statistics."""
        asked: dict[str, Any] = dict(self.options)
        asked |= {k: v for k, v in {"init": x_init, "seed": seed}.items() if v is not None}
        self.result = solve(y, physics, self.prior, "posterior", **asked)
        every = [g_statistics] if callable(g_statistics) else [*g_statistics]
        values = [torch.stack([g(state) for state in self.get_chain()]) for g in every]
        means, variances = [v.mean(0) for v in values], [v.var(0) for v in values]
        return (means[0], variances[0]) if len(every) == 1 else (means, variances)

    def get_chain(self) -> list[dict[str, Tensor]]:
        """The draws of the last call, {"x": (B, C, H, W)} each, chain after chain."""
        if self.result is None or self.result.samples is None:
            raise UsageError("there are no draws yet: call the sampler with (y, physics) first")
        return [{"x": x} for x in self.result.samples]

    @property
    def mean_has_converged(self) -> bool:
        """Whether all items of the last call did."""
        return self.result is not None and bool(self.result.converged.all())

    var_has_converged = mean_has_converged
