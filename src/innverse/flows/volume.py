"""1/2 log det(J^T J), the volume of a k-dimensional manifold under its coordinates.

Exactly by the k columns of J; else by A = J^T J as a product alone, one forward and one backward
differentiation: its log-determinant by Lanczos quadrature (Ubaru, Chen & Saad 2017),

    log det A = E eps^T log(A) eps,   eps random signs,

and the gradient of it by conjugate gradients, E (A^-1 eps)^T dA eps (Caterini et al. 2021, arXiv
2106.01413).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..seeding import fixed_signs

_NUMBERS = 2**24  # of a Jacobian at once
_STEPS = 30  # of Lanczos and of conjugate gradients
_SEED = 0


class Volume:
    """1/2 log det(J^T J) (B,) of points G(u), J = dG/du at u (B, k).

    Args:
        exact_dims: k up to which it is exact.
        probes: random directions of the estimate.
    """

    def __init__(self, exact_dims: int = 256, probes: int = 8):
        self.exact_dims, self.probes = exact_dims, probes

    def __call__(
        self, point: Callable[[Tensor], Tensor], u: Tensor, value: bool = True, fresh: bool = False
    ) -> Tensor:
        """``value=False``: only the gradient is right (what training needs), which is cheaper.
        ``fresh`` directions come from torch's global generator, others are the same at every call and
        for every item.
        """
        if u.shape[1] <= self.exact_dims:
            return 0.5 * torch.linalg.slogdet(gram(point, u))[1]
        if fresh:
            signs = 2 * torch.randint(0, 2, (self.probes, *u.shape), device=u.device).to(u) - 1
        else:
            signs = fixed_signs((self.probes, 1, u.shape[1]), _SEED, u)
        total = u.new_zeros(len(u))
        for eps in signs.expand(-1, *u.shape):
            with torch.no_grad():
                product = lambda v: _gram(point, u.detach(), v)  # noqa: E731
                found = 0.5 * _quadrature(product, eps) if value else torch.zeros_like(total)
            if torch.is_grad_enabled():
                with torch.no_grad():
                    solved = _conjugate_gradients(product, eps)
                # 1/2 (A^-1 eps)^T A eps, of which A moves: two pushed vectors, one product
                pushed, other = _push(point, u, eps), _push(point, u, solved)
                moving = 0.5 * (pushed * other).flatten(1).sum(1)
                found = found + moving - moving.detach()
            total = total + found
        return total / self.probes


def gram(point: Callable[[Tensor], Tensor], u: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """J^T J (B, k, k), by the k columns of J; in the type of u, or summed in ``dtype``."""
    dtype = dtype or u.dtype
    if not len(u):
        return u.new_zeros(0, u.shape[1], u.shape[1], dtype=dtype)
    jacobian = torch.func.vmap(torch.func.jacfwd(lambda u: point(u[None]).flatten()))
    with torch.no_grad():
        n = point(u[:1]).numel()
    parts = u.split(max(1, _NUMBERS // (u.shape[1] * n)))
    return torch.cat([j.mT @ j for j in (jacobian(part).to(dtype) for part in parts)])


def _push(point: Callable[[Tensor], Tensor], u: Tensor, v: Tensor) -> Tensor:
    """J v of every item."""
    return torch.func.jvp(point, (u,), (v,))[1]


def _gram(point: Callable[[Tensor], Tensor], u: Tensor, v: Tensor) -> Tensor:
    """J^T J v."""
    pull = torch.func.vjp(point, u)[1]
    return pull(_push(point, u, v))[0]


def _quadrature(product: Callable[[Tensor], Tensor], eps: Tensor) -> Tensor:
    """eps^T log(A) eps of every item, by Lanczos with full orthogonalisation."""
    norm = eps.norm(dim=1, keepdim=True)
    basis, alphas, betas = [eps / norm], [], []
    for step in range(min(_STEPS, eps.shape[1])):
        w = product(basis[-1])
        alphas.append((w * basis[-1]).sum(1))
        for q in basis:
            w = w - (w * q).sum(1, keepdim=True) * q
        beta = w.norm(dim=1, keepdim=True)
        if step + 1 == min(_STEPS, eps.shape[1]):
            break
        betas.append(beta[:, 0])
        basis.append(w / beta.clamp_min(torch.finfo(w.dtype).tiny))
    t = torch.diag_embed(torch.stack(alphas, 1).double())
    if betas:
        off = torch.stack(betas, 1).double()
        t = t + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    values, vectors = torch.linalg.eigh(t)
    logs = values.clamp_min(torch.finfo(eps.dtype).tiny).log()
    return (norm[:, 0].square() * (vectors[:, 0].square() * logs).sum(1)).to(eps.dtype)


def _conjugate_gradients(product: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
    """A^-1 b of every item."""
    x, r = torch.zeros_like(b), b
    p, square = r, r.square().sum(1, keepdim=True)
    for _ in range(min(_STEPS, b.shape[1])):
        q = product(p)
        step = square / (p * q).sum(1, keepdim=True).clamp_min(torch.finfo(b.dtype).tiny)
        x, r = x + step * p, r - step * q
        new = r.square().sum(1, keepdim=True)
        p, square = r + new / square.clamp_min(torch.finfo(b.dtype).tiny) * p, new
    return x
