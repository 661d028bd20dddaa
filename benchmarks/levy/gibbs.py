"""Draws of the exact posterior of a Levy process, for many signals side by side.

Given all variances and indicators the increments are normal. One sweep draws

    the variance of each increment, given it;
    where the law has an atom, each increment with its indicator, given the others;
    whether two neighbours change places (their law is the same, so the data alone decide),
    which moves a jump in time without making two of it;
    and all increments at once (Bohra et al. 2023).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .laws import Law

_TOGETHER = 64


class Gibbs:
    """Increments (n, 64) given measurements y (n, m) = A C u + N(0, noise^2).

    Random numbers come from torch's global generator. ``u`` are the increments now, ``mean`` their
    mean given variances and indicators, which wanders less.
    """

    def __init__(self, law: Law, a: Tensor, y: Tensor, noise: float):
        h = a @ torch.ones(a.shape[1], a.shape[1], dtype=a.dtype).tril() / noise
        self.law = law
        self.gram, self.seen = h.T @ h, (y / noise) @ h  # of the likelihood, in increments
        shape = (len(y), a.shape[1])
        self.v = torch.rand(shape, dtype=a.dtype) < law.active
        self.z = law.variance(self.seen)
        self.u = self.mean = torch.zeros_like(self.seen)
        self._draw_all()

    def sweep(self) -> None:
        self._draw_variances()
        if self.law.active < 1:
            self._draw_each()
            self._draw_variances()
        self._exchange()
        self._draw_all()

    def log_p(self, u: Tensor) -> Tensor:
        """Of increments (n, 64) given the data (n,), without the constant."""
        likelihood = (u * (self.seen - 0.5 * u @ self.gram)).sum(1)
        return self.law.log_prob(u).sum(1) + likelihood

    def _draw_variances(self) -> None:
        given = self.law.variance_given(self.u)
        if self.law.active < 1:
            given = torch.where(self.v, given, self.law.variance(self.u))
        self.z = given

    def _draw_each(self) -> None:
        """v_k and u_k given all others, k by k; v_k with u_k integrated out."""
        u, z = self.u.T.contiguous(), self.z.T  # rows are increments
        slope = (self.seen - self.u @ self.gram).T.contiguous()  # of the log-likelihood, at u
        odds = math.log(self.law.active / (1 - self.law.active))
        lottery = torch.rand_like(u).logit()
        e, v = torch.randn_like(u), torch.empty_like(u, dtype=torch.bool)
        for k in range(len(u)):
            q = self.gram[k, k]
            linear, precision = slope[k] + q * u[k], q + 1 / z[k]
            gain = 0.5 * (linear.square() / precision - (1 + z[k] * q).log())
            v[k] = lottery[k] < odds + gain
            new = torch.where(v[k], linear / precision + e[k] * precision.rsqrt(), 0.0)
            slope.addr_(self.gram[k], u[k] - new)
            u[k] = new
        self.u, self.v = u.T.contiguous(), v.T.contiguous()

    def _exchange(self) -> None:
        """Neighbours change places where the data allow it."""
        u, z, v = (t.T.contiguous() for t in (self.u, self.z, self.v))
        slope = (self.seen - self.u @ self.gram).T.contiguous()
        lottery = torch.rand_like(u).log()
        for k in range(len(u) - 1):
            apart = self.gram[k] - self.gram[k + 1]
            change = u[k + 1] - u[k]
            gain = change * (slope[k] - slope[k + 1] - 0.5 * change * (apart[k] - apart[k + 1]))
            accepted = lottery[k] < gain
            slope.addr_(apart, torch.where(accepted, -change, 0.0))
            for t in (u, z, v):
                a, b = t[k].clone(), t[k + 1]
                t[k], t[k + 1] = torch.where(accepted, b, a), torch.where(accepted, a, b)
        self.u, self.z, self.v = (t.T.contiguous() for t in (u, z, v))

    def _draw_all(self) -> None:
        # a few at a time: their matrices stay in the processor's cache
        parts = zip(*(t.split(_TOGETHER) for t in (self.v, self.z, self.seen)))
        drawn = [self._normal(v.to(self.gram), z, seen) for v, z, seen in parts]
        self.mean, self.u = (torch.cat(t) for t in zip(*drawn))

    def _normal(self, v: Tensor, z: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and one draw of the increments given variances and indicators."""
        precision = v[:, :, None] * self.gram * v[:, None, :]
        precision.diagonal(dim1=1, dim2=2).add_(1 / z)
        lower = torch.linalg.cholesky(precision)
        half = torch.linalg.solve_triangular(lower, (v * seen)[:, :, None], upper=False)
        both = torch.cat((half, half + torch.randn_like(half)), 2)
        mean, draw = torch.linalg.solve_triangular(lower.mT, both, upper=True).unbind(2)
        return mean * v, draw * v
