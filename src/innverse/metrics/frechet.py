"""The Fréchet distance of two sets of features, each taken as a normal distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError, ShapeError


def frechet(a: Tensor, b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson & Landau 1982; Heusel et al. 2017).

    Args:
        a, b: features (n, d) and (m, d); m and A are their mean and covariance.

    With few samples it is too large, by about the trace of the covariance over n: compare only
    values from the same numbers of samples.

    Raises:
        ShapeError: not two matrices of one width. InputError: fewer than 2 rows.

    Example:
        >>> x = torch.randn(1000, 2)
        >>> round(frechet(x, x + 3.0), 1)  # the squared distance of the means
        18.0
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1]:
        raise ShapeError(f"features (n, d) and (m, d), not {tuple(a.shape)} and {tuple(b.shape)}")
    if min(len(a), len(b)) < 2:
        raise InputError("a Fréchet distance needs at least 2 samples on each side")
    a, b = a.double(), b.double()
    cov_a, cov_b = (torch.atleast_2d(torch.cov(f.T)) for f in (a, b))
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    # A B and root B root have the same eigenvalues, and the latter is symmetric
    common = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * common
    return max(0.0, float(distance))
