"""Checks of what a user brings: an operator, a measurement."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..protocols import Physics
from .base import LinearPhysics, device_of, name_of
from .callables import CallablePhysics
from .cg import dot
from .noise import randn

_TOL = 1e-3
_OWN = __name__.rpartition(".")[0]  # where the operators of this package are


@torch.no_grad()
def check_adjoint(physics: Physics, x, tol: float = _TOL, trials: int = 2, seed: int = 0) -> float:
    """Compare <A x, y> with <x, A_adjoint y> for random x and y (of complex ones the real part).

    Of an operator that is not linear its derivative at random images on [0, 1] is compared.

    Args:
        physics: an object with A and A_adjoint.
        x: a batch of images, or its shape.
        tol: largest relative difference.
        trials: number of random pairs.

    Returns:
        the largest difference, relative to ||A x|| ||y|| / sqrt(m).

    Raises:
        InputError: NaN or Inf, or the two differ; names the operator, prints both inner products
            and says what it is instead, if it is a scaled adjoint, an inverse, not linear, ...

    Example:
        >>> check_adjoint(Denoising(), torch.rand(1, 1, 8, 8)) < 1e-6
        True
    """
    u, v, generator = _random(physics, x, seed), None, torch.Generator().manual_seed(seed + 1)
    if isinstance(physics, LinearPhysics):
        physics = physics.at(u.sigmoid())  # images on [0, 1]
    worst = 0.0
    for trial in range(trials):
        if trial:
            u = randn(u.shape, dtype=u.dtype, device=u.device, generator=generator)
        au = _finite(physics, "A", u)
        v = randn(au.shape, dtype=au.dtype, device=au.device, generator=generator)
        atv = _finite(physics, "A_adjoint", v)
        if atv.shape != u.shape:
            raise InputError(
                f"the adjoint of {name_of(physics)} is wrong: A_adjoint returns shape "
                f"{tuple(atv.shape)} for images of shape {tuple(u.shape)}"
            )
        left, right = _inner(au, v), _inner(u, atv)
        # the inner product of random vectors nearly cancels: measure against the norms
        scale = max(_norm(au) * _norm(v) / v.numel() ** 0.5, 1e-300)
        if _norm(au) == 0 and _norm(atv) == 0:
            raise InputError(
                f"{name_of(physics)} measures nothing: A x is zero for random images x"
            )
        worst = max(worst, abs(left - right) / scale)
        if not worst <= tol:
            _check_linear(physics, u, generator, tol)
            raise InputError(
                f"the adjoint of {name_of(physics)} is wrong: <A x, y> = {left:.6g} but "
                f"<x, A_adjoint y> = {right:.6g} for random x, y{_explain(physics, u, v, tol)}"
            )
    return worst


@torch.no_grad()
def check_operator(physics: LinearPhysics, x: Tensor, tol: float = _TOL, seed: int = 0) -> None:
    """Everything that `solve` asks of an operator: finite, linear, repeatable, its adjoint right.

    Args:
        physics: a `LinearPhysics`; operators of this package are trusted to be linear.
        x: a batch of images that it measures.
        tol: largest relative error.

    Raises:
        InputError: says in one line which of them fails.

    Example:
        >>> check_operator(Downsampling(2), torch.rand(1, 1, 8, 8))  # raises where it is none
    """
    u = _random(physics, x, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    if not is_own(physics):
        _check_buffers(physics, u)
        _check_linear(physics, u, generator, tol)
    check_adjoint(physics, x, tol, seed=seed)
    if type(physics).solve_normal.__module__.startswith(_OWN):
        return
    rho = 0.1 * max(float(physics.norm_squared(u)), 1e-300)
    solved = _finite(physics, "solve_normal", u, rho)
    error = _norm(physics.A_adjoint(physics.A(solved)) + rho * solved - u)
    if not error <= 10 * tol * _norm(u):
        raise InputError(
            f"solve_normal of {name_of(physics)} is wrong: (A^T A + rho) x differs from the "
            f"right-hand side by {100 * error / _norm(u):.3g} %"
        )


@torch.no_grad()
def check_items(physics: Physics, x: Tensor, tol: float = _TOL) -> None:
    """Raise InputError if an item of the batch x influences the measurement of another."""
    u = _random(physics, x, 2)
    together, alone = physics.A(u)[:1], physics.A(u[:1])
    if not _close(together, alone, tol):
        raise InputError(
            f"{name_of(physics)} mixes the items of a batch: the measurement of one depends on the "
            f"others; solve them one by one, or let A treat each image alone"
        )


def is_own(physics: nn.Module) -> bool:
    """Whether the operator is one of this package through and through, and so linear."""
    return all(
        type(m).__module__.startswith(_OWN) and not isinstance(m, CallablePhysics)
        for m in physics.modules()
        if isinstance(m, LinearPhysics)
    )


def _check_buffers(physics: LinearPhysics, u: Tensor) -> None:
    """Operators that write into what they are given, or give the same memory twice."""
    v = torch.ones_like(u)
    given = u.clone()
    first = physics.A(given)
    kept = first.clone()
    physics.A(v)
    shared = not _same(first, kept)
    written = not _same(given, u)
    back = physics.A_adjoint(kept.clone())
    y = kept.clone()
    kept_back = back.clone()
    physics.A_adjoint(y)
    shared |= not _same(back, kept_back) and _same(physics.A_adjoint(kept.clone()), kept_back)
    written |= not _same(y, kept)
    if not (shared or written):
        return
    functions = [m for m in physics.modules() if isinstance(m, CallablePhysics)]
    for m in functions:
        m.guarded = True
    if functions:
        return
    what = "writes into its input" if written else "returns the same memory at every call"
    raise InputError(f"{name_of(physics)} {what}: let it work on a copy (x.clone())")


def _check_linear(physics: Physics, u: Tensor, generator, tol: float) -> None:
    """A u is finite and the same twice, A 0 = 0, A (u + w) = A u + A w."""
    name = name_of(physics)
    au = _finite(physics, "A", u)
    again = _finite(physics, "A", u)
    if not _close(au, again, tol):
        raise InputError(
            f"{name} is random: A gives different measurements of the same images; leave the "
            f"noise to noise="
        )
    atv = _finite(physics, "A_adjoint", au)
    if not _close(atv, _finite(physics, "A_adjoint", au), tol):
        raise InputError(f"{name} is random: A_adjoint gives different images for the same y")
    offset = _finite(physics, "A", torch.zeros_like(u))
    if not _norm(offset) <= tol * _norm(au):
        raise InputError(
            f"{name} is affine, not linear: A(0) is not 0 but up to "
            f"{float(offset.abs().max()):.4g}; solve for y - A(0) with x -> A(x) - A(0)"
        )
    ones = _finite(physics, "A", torch.ones_like(u))
    w = torch.rand(u.shape, generator=generator).to(u)
    aw = _finite(physics, "A", w)
    for a, aa, b, ab in ((u, au, w, aw), (w, aw, torch.ones_like(u), ones)):
        both = _finite(physics, "A", a - 2 * b)
        error = _norm(both - aa + 2 * ab)
        if not error <= tol * (_norm(aa) + 2 * _norm(ab)):
            part = 100 * error / max(_norm(both), 1e-300)
            raise InputError(
                f"{name} is not linear: A(x1 - 2 x2) differs from A(x1) - 2 A(x2) by {part:.3g} %; "
                f"if that is meant, give it as Nonlinear(function, image_shape)"
            )


def _explain(physics: Physics, u: Tensor, v: Tensor, tol: float) -> str:
    """What a wrong adjoint is instead, in words; empty if that cannot be told."""
    au = physics.A(u)
    back = physics.A_adjoint(au)
    factor = _inner(u, back) / max(_inner(au, au), 1e-300)

    def matches(left: float, right: float) -> bool:
        return abs(left - right) <= tol * _norm(au) * _norm(v) / v.numel() ** 0.5

    if factor != 0 and matches(_inner(au, v), _inner(u, physics.A_adjoint(v)) / factor):
        return f": it is {factor:.6g} times the adjoint, divide it by that"
    if v.is_complex() and matches(_inner(au, v), _inner(u, physics.A_adjoint(v.conj()))):
        return ": it is the transpose, take the complex conjugate"
    if _close(physics.A(back), au, tol):
        return ": it is an inverse of A, not its transpose"
    return ""


def check_measurement(y: Tensor) -> None:
    """Raise InputError if the measurement is empty or holds NaN or Inf, with their number.

    Example:
        >>> check_measurement(torch.rand(1, 1, 8, 8))  # raises where it is not a batch of numbers
    """
    bad, kinds = _not_finite(y)
    if bad:
        raise InputError(
            f"the measurement contains {bad} {kinds} of {y.numel()} values: replace them, or mask "
            f"them as missing (Inpainting, or a noise map that is Inf there)"
        )
    if y.numel() == 0:
        raise InputError("the measurement is empty")


def _finite(physics: Physics, what: str, *given) -> Tensor:
    out = getattr(physics, what)(*given)
    if not isinstance(out, Tensor):
        raise InputError(f"{what} of {name_of(physics)} returns {type(out).__name__}, not a tensor")
    bad, kinds = _not_finite(out)
    if bad:
        raise InputError(
            f"{what} of {name_of(physics)} returns {kinds} in {bad} of {out.numel()} values for a "
            f"finite input: the operator is broken"
        )
    return out


def _not_finite(t: Tensor) -> tuple[int, str]:
    """How many values are not finite, and what they are."""
    bad, nan = int((~t.isfinite()).sum()), int(t.isnan().sum())
    return bad, "NaN" if nan == bad else "Inf" if nan == 0 else "NaN or Inf"


def _random(physics: Physics, x, seed: int) -> Tensor:
    if isinstance(x, Tensor):
        shape, dtype, device = x.shape, x.dtype, x.device
    else:
        shape, dtype, device = tuple(x), torch.float32, device_of(physics)
    return randn(shape, dtype=dtype, device=device, generator=torch.Generator().manual_seed(seed))


def _inner(a: Tensor, b: Tensor) -> float:
    """Real part of the inner product, in float64."""
    if a.is_complex() != b.is_complex():  # only the real part of the complex one counts
        a, b = a.real, b.real
    a, b = (t.to(torch.complex128 if t.is_complex() else torch.float64) for t in (a, b))
    return float(dot(a.flatten()[None], b.flatten()[None]))


def _norm(a: Tensor) -> float:
    return max(_inner(a, a), 0.0) ** 0.5


def _same(a: Tensor, b: Tensor) -> bool:
    return (
        a.shape == b.shape
        and torch.equal(a.isnan(), b.isnan())
        and bool((a == b)[~a.isnan()].all())
    )


def _close(a: Tensor, b: Tensor, tol: float) -> bool:
    return a.shape == b.shape and _norm(a - b) <= tol * max(_norm(a), _norm(b), 1e-300)
