"""Maximum mean discrepancy: a distance of two distributions from their samples.

Gretton et al., JMLR 13 (2012). The kernels are functions of the squared distance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import InputError, ShapeError

Kernel = Callable[[Tensor], Tensor]

WIDTHS = (0.05, 0.2, 0.5, 1.0, 2.0)


def inverse_multiquadratic(widths: Sequence[float] = WIDTHS) -> Kernel:
    """k = mean_h 1 / (1 + d^2 / h^2): heavy tails, so samples that are far apart still attract.

    The kernel of Ardizzone et al. 2018 (section 3.4), averaged over several ``widths`` h so that
    it has a gradient at every scale; 0 <= k <= 1.
    """
    _check(widths)
    return lambda d2: (
        sum((h * h / (h * h + d2) for h in widths), torch.zeros_like(d2)) / len(widths)
    )


def gaussian(widths: Sequence[float] = (1.0,)) -> Kernel:
    """k = mean_h exp(-d^2 / (2 h^2))."""
    _check(widths)
    return lambda d2: (
        sum(((d2 * (-0.5 / (h * h))).exp() for h in widths), torch.zeros_like(d2)) / len(widths)
    )


def mmd2(x: Tensor, y: Tensor, kernel: Kernel | None = None, *, unbiased: bool = True) -> Tensor:
    """MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y) of samples x (n, d) and y (m, d); a scalar.

    ``unbiased`` leaves out the pairs of a sample with itself, so the value may be negative; with
    them (the biased form) it is never below 0. Differentiable; memory grows with (n + m)^2, see
    `mmd2_large` for evaluation. The default kernel is `inverse_multiquadratic`.

    Raises:
        ShapeError: not two matrices of one width.
        InputError: fewer than 2 rows.
    """
    _check_samples(x, y)
    kernel = kernel or inverse_multiquadratic()
    xx, yy, xy = (kernel(_distances(a, b)) for a, b in ((x, x), (y, y), (x, y)))
    return _within(xx, unbiased) + _within(yy, unbiased) - 2 * xy.mean()


def mmd2_large(x: Tensor, y: Tensor, kernel: Kernel | None = None, *, chunk: int = 2048) -> float:
    """The unbiased MMD^2 of any number of samples, in blocks, summed in float64, no gradient."""
    _check_samples(x, y)
    k = kernel or inverse_multiquadratic()
    one = float(k(torch.zeros(1, dtype=torch.float64)))

    def total(a: Tensor, b: Tensor) -> float:
        blocks = (k(_distances(p, q)) for p in a.split(chunk) for q in b.split(chunk))
        return sum(float(block.sum(dtype=torch.float64)) for block in blocks)

    with torch.no_grad():
        n, m = len(x), len(y)
        xx = (total(x, x) - n * one) / (n * (n - 1))
        yy = (total(y, y) - m * one) / (m * (m - 1))
        return xx + yy - 2 * total(x, y) / (n * m)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (n, m). Centred first: the expansion of the square cancels less."""
    centre = a.detach().mean(0)
    a, b = a - centre, b - centre
    d2 = a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T
    return d2.clamp_min(0)


def _within(k: Tensor, unbiased: bool) -> Tensor:
    if not unbiased:
        return k.mean()
    n = len(k)
    return (k.sum() - k.diagonal().sum()) / (n * (n - 1))


def _check_samples(x: Tensor, y: Tensor) -> None:
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1]:
        raise ShapeError(
            f"MMD compares samples (n, d) and (m, d), got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if min(len(x), len(y)) < 2:
        raise InputError("MMD needs at least 2 samples on each side")


def _check(widths: Sequence[float]) -> None:
    if not widths or min(widths) <= 0:
        raise InputError(f"kernel widths must be above 0, got {tuple(widths)}")
