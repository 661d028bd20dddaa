"""Injective layers: R^k -> R^n by orthonormal columns, which change no volume."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShapeError, UsageError, warn
from ..models.parts import Part


class Embedding(Part, nn.Module):
    """u -> W u + b with W^T W = I_k; its left inverse is v -> W^T (v - b).

    W is a function of a free matrix (its QR decomposition), so training keeps it orthonormal;
    `initialize_` begins with the principal components of a batch. With ``learned=False`` W pads with
    zeros (the first k of n coordinates). Kothari et al. 2021 (Trumpets, arXiv 2102.10461), section 2.
    ``among`` learns the columns of the first so many coordinates only, the others stay 0.

    Example:
        >>> layer = Embedding(2, 5)
        >>> u = torch.rand(3, 2)
        >>> torch.allclose(layer.left_inverse(layer(u)), u, atol=1e-5)
        True
    """

    def __init__(self, k: int, n: int, learned: bool = True, among: int | None = None):
        super().__init__()
        self.k, self.n, self.m = k, n, n if among is None else among
        if not 1 <= k <= self.m <= n:
            raise UsageError(
                f"an embedding leads from k to n >= k numbers, got k={k}, n={n}, among={among}"
            )
        self.columns = nn.Parameter(torch.randn(self.m, k) * self.m**-0.5) if learned else None
        self.offset = nn.Parameter(torch.zeros(self.m)) if learned else None

    def matrix(self, like: Tensor) -> Tensor:
        """W (m, k); what is below it is 0."""
        if self.columns is None:
            return torch.eye(self.m, self.k, dtype=like.dtype, device=like.device)
        q, r = torch.linalg.qr(self.columns)
        return q * r.diagonal().sign()  # continuous in the columns

    def forward(self, u: Tensor) -> Tensor:
        """(B, k) -> (B, n)."""
        _check(u, self.k)
        v = u @ self.matrix(u).T
        v = v if self.offset is None else v + self.offset
        return v if self.m == self.n else F.pad(v, (0, self.n - self.m))

    def left_inverse(self, v: Tensor) -> Tensor:
        """(B, n) -> (B, k): the coordinates of the orthogonal projection of v."""
        _check(v, self.n)
        v = v[:, : self.m]
        return (v if self.offset is None else v - self.offset) @ self.matrix(v)

    @torch.no_grad()
    def initialize_(self, v: Tensor) -> Tensor:
        """Take the mean and the principal components of v (B, n); gives the coordinates."""
        if self.columns is not None and self.offset is not None:
            mean = v[:, : self.m].mean(0)
            centred = v[:, : self.m] - mean
            self.offset.copy_(mean)
            found = torch.linalg.svd(centred, full_matrices=False)[2][: self.k].T
            if len(v) <= self.k:
                warn(
                    f"{len(v)} items tell {len(v) - 1} directions of {self.k}: give a larger batch"
                )
            self.columns[:, : found.shape[1]] = found
            rest = self.columns[:, found.shape[1] :]
            rest -= found @ (found.T @ rest)
        return self.left_inverse(v)

    def extra_repr(self) -> str:
        return f"{self.k} -> {self.n}"


def _check(t: Tensor, n: int) -> None:
    if t.dim() != 2 or t.shape[1] != n:
        raise ShapeError(f"this embedding takes (B, {n}) here, got {tuple(t.shape)}")
