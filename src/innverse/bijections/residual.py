"""z = x + g(x) with a contraction g: any network, no split, no triangular Jacobian."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..accelerate import handwritten
from ..accelerate.autocast import without_autocast
from ..errors import NotConvergedError, UsageError
from ..nets.lipschitz import LipschitzNet
from ..seeding import fixed_signs
from ..shapes import positions, wide
from .base import Bijection, sum_per_item

LOGDETS = ("auto", "exact", "roulette", "series")

Product = Callable[[Tensor], Tensor]  # v -> J v for tangents (K, B, *shape)


class Residual(Bijection):
    """z = x + g(x), Lip(g) < 1 (i-ResNet, Behrmann et al. 2019, arXiv 1811.00995).

    The inverse is the limit of x <- z - g(x); its error shrinks by Lip(g) at every step, so the
    number of steps that ``tolerance`` needs is known. The log-determinant is, by ``logdet``,

    ``"exact"``     log|det(I + J)| from the full Jacobian J: D products with J, then a
                    determinant.
    ``"series"``    sum_{k <= terms} (-1)^(k+1) tr(J^k) / k, each trace estimated as v^T J^k v with
                    ``probes`` fixed random signs v, of the layer's own ``seed`` (in the state
                    dict). Deterministic; truncation leaves out at most
                    D L^(terms+1) / ((terms+1) (1-L)) nats for L = Lip(g), and the error of the
                    few probes falls as 1 / sqrt(probes).
    ``"roulette"``  the same series ended at random, later terms weighted up (Chen et al. 2019,
                    arXiv 1906.02735): unbiased in value and gradient, one fresh probe per item,
                    and the memory of one product.
    ``"auto"``      exact for items of up to ``exact_dims`` numbers; above, roulette in training
                    mode and series in evaluation mode.

    Roulette draws from ``generator``, or torch's global one where that is None. Its gradient is
    meant to be taken once: second derivatives (score matching) need exact or series. The gradient
    of ``inverse`` is that of the implicit function, likewise of first order.

    Args:
        net: g, a `LipschitzNet`.
        tolerance: the last step of the inverse relative to max(1, |x|); by default 2e-6 in
            float32 and 1e-12 in float64. The error is at most L / (1 - L) times as large.

    Raises:
        NotConvergedError: the inverse does not converge, so g is no contraction in this precision.

    Example:
        >>> layer = Residual(innverse.nets.LipschitzMLP(3, width=8))
        >>> z, log_det = layer(torch.rand(2, 3))
        >>> z.shape, log_det.shape
        (torch.Size([2, 3]), torch.Size([2]))
    """

    seed: Tensor

    def __init__(
        self,
        net: LipschitzNet,
        *,
        logdet: str = "auto",
        exact_dims: int = 32,
        terms: int = 24,
        probes: int = 16,
        tolerance: float | None = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if logdet not in LOGDETS:
            raise UsageError(f"logdet={logdet!r}: choose one of {', '.join(LOGDETS)}")
        if terms < 1 or probes < 1:
            raise UsageError(f"terms={terms}, probes={probes}: both must be at least 1")
        self.net, self.logdet, self.exact_dims = net, logdet, exact_dims
        self.terms, self.probes, self.tolerance = terms, probes, tolerance
        self.generator = generator
        # layers with the same probes would add up their errors instead of averaging them
        self.register_buffer("seed", torch.randint(2**31, ()))

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with without_autocast(x.device.type):
            g, product = self.net.linearize(x, c)
            return x + g, self._logdet(x, product)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with without_autocast(z.device.type):
            weights = self.net.weights()
            with torch.no_grad():
                x = self._fixed_point(z, c, weights)
            if torch.is_grad_enabled():
                x = self._implicit(x, z, c, weights)
            return x, -self._logdet(x, self.net.linearize(x, c, weights)[1])

    def initialize_(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return x + self.net(x, c)

    # ---- the inverse ------------------------------------------------------------------------

    def _fixed_point(self, z: Tensor, c: Tensor | None, weights: list[Tensor]) -> Tensor:
        """x = z - g(x); an item stops moving when it has converged, whatever the others do."""
        x = z - self.net(z, c, weights)
        if not handwritten.applies():  # no data-dependent stop in a graph or a transform
            for _ in range(self._steps(z)):
                x = z - self.net(x, c, weights)
            return x
        tolerance = self._tolerance(z)
        moving = z.flatten(1).isfinite().all(1)  # NaN passes on, as through any other layer
        for _ in range(2 * self._steps(z)):
            new = z - self.net(x, c, weights)
            step = (new - x).flatten(1).abs().amax(1)
            size = new.flatten(1).abs().amax(1).clamp_min(1)
            x = torch.where(wide(moving, x), new, x)
            moving = moving & ~((step <= tolerance * size) & step.isfinite())
            if not moving.any():
                return x
        raise NotConvergedError(
            f"x = z - g(x) still moves by {float(step[moving].amax()):.1e} after "
            f"{2 * self._steps(z)} steps (tolerance {tolerance:.0e} of |x|): "
            "loosen the tolerance or compute in float64"
        )

    def _implicit(self, x: Tensor, z: Tensor, c: Tensor | None, weights: list[Tensor]) -> Tensor:
        """x with the gradient of the implicit function: dx = (I + J)^-1 (dz - dg).

        One Newton step from the solution, which moves nothing but carries the graph; the inverse
        matrix is the series I - J + J^2 - ...
        """
        with torch.no_grad():
            _, product = self.net.linearize(x, c, [w.detach() for w in weights])
        change = z - x - self.net(x, c, weights)
        term = total = change[None]
        for _ in range(self._steps(z)):
            term = -product(term)
            total = total + term
        return x + total[0]

    def _tolerance(self, x: Tensor) -> float:
        if self.tolerance is not None:
            return self.tolerance
        return 1e-12 if x.dtype == torch.float64 else 2e-6

    def _steps(self, x: Tensor) -> int:
        """After n steps the error is at most L^n / (1 - L) times the first step."""
        lipschitz = self.net.lipschitz
        return math.ceil(math.log(self._tolerance(x) * (1 - lipschitz)) / math.log(lipschitz))

    # ---- the log-determinant ----------------------------------------------------------------

    def _logdet(self, x: Tensor, product: Product) -> Tensor:
        how = self.logdet
        if how == "auto":
            random = "roulette" if self.training else "series"
            how = "exact" if x.shape[1] * positions(x) <= self.exact_dims else random
        if how == "exact":
            return exact_logdet(x, product)
        if how == "roulette":
            return roulette_logdet(x, product, self.generator)
        return series_logdet(x, product, self.terms, self.probes, int(self.seed))

    def extra_repr(self) -> str:
        return f"logdet={self.logdet!r}, lipschitz={self.net.lipschitz:g}"


def exact_logdet(x: Tensor, product: Product) -> Tensor:
    """log det(I + J) of each item (B,), from D products."""
    d = x.shape[1] * positions(x)
    eye = torch.eye(d, dtype=x.dtype, device=x.device)
    columns = product(eye.view(d, 1, *x.shape[1:]).expand(d, *x.shape))
    jacobian = columns.reshape(d, len(x), d).permute(1, 2, 0)
    return torch.linalg.slogdet(eye + jacobian)[1]


def series_logdet(x: Tensor, product: Product, terms: int, probes: int, seed: int) -> Tensor:
    """tr log(I + J) by its power series, with the same ``probes`` for every item of the batch."""
    v = fixed_signs((probes, 1, *x.shape[1:]), seed, x)
    v = power = v.expand(probes, *x.shape)
    total = x.new_zeros(len(x))
    for k in range(1, terms + 1):
        power = product(power)
        total = total - (-1) ** k / k * _dot(v, power)
    return total


def roulette_logdet(
    x: Tensor,
    product: Product,
    generator: torch.Generator | None,
    certain: int = 2,
    stop: float = 0.25,
) -> Tensor:
    """An unbiased estimate of tr log(I + J) whose gradient is one of tr((I + J)^-1 dJ).

    N = ``certain`` + a geometric number of terms are summed, the k-th divided by P(N >= k)
    = (1 - stop)^(k - certain). The gradient has its own series (the paper's Neumann gradient):
    v^T dJ u with u = sum_k (-J)^k v / P(N >= k).
    """
    device = x.device if generator is None else generator.device
    draw = torch.rand((), generator=generator, device=device, dtype=torch.float64)
    n = certain + math.floor(math.log1p(-float(draw)) / math.log1p(-stop))
    v = power = u = _signs((1, *x.shape), x, generator)
    value = x.new_zeros(len(x))
    with torch.no_grad():
        for k in range(1, n + 1):
            power = -product(power)
            chance = (1 - stop) ** max(k - certain, 0)
            value = value - _dot(v, power) / (k * chance)
            u = u + power / chance
    if not torch.is_grad_enabled():
        return value
    surrogate = _dot(v, product(u))
    return value + (surrogate - surrogate.detach())


def _dot(v: Tensor, w: Tensor) -> Tensor:
    """v^T w of each item, averaged over the probes: (K, B, ...) -> (B,)."""
    return sum_per_item((v * w).mean(0))


def _signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    bits = torch.randint(0, 2, shape, generator=generator, device=device)
    return (2 * bits - 1).to(like)
