"""One test for every bijection: does it keep the contract, and is its log-determinant right?

Comparing ``forward`` with ``inverse`` alone lets a consistently wrong log-determinant pass, so
both are compared with the Jacobian that autodiff finds, with parameters moved away from their
initial values (where many layers are the identity and every formula looks right).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .base import Bijection
from .chain import Chain, set_memory


class BijectionError(AssertionError):
    """A layer that breaks the contract of `Bijection`; the message says which part and by how much."""


def check_bijection(
    layer: Bijection,
    x: Tensor,
    c: Tensor | None = None,
    *,
    tol: float = 1e-8,
    tol_fp32: float = 1e-3,
    perturb: float = 0.1,
    compile: bool = False,
    seed: int = 0,
) -> dict[str, float]:
    """Check a layer in float64, and its round trip in float32; returns the error of each check.

    Args:
        layer: the bijection. It is copied, and the copy's parameters are moved by
            ``perturb`` * N(0, 1) draws.
        x: a batch (B, C, *space) inside the layer's domain, a few hundred elements an item at
            most (the Jacobian is computed in full).
        c: the condition, (B, k) or (B, k, h, w).
        tol: the relative error allowed in float64.
        tol_fp32: the round-trip error allowed in float32, relative to max(1, |x|).
        compile: also trace forward, inverse and their gradients by ``torch.compile`` in one graph.
        seed: of the parameter moves and probe vectors.

    Raises:
        BijectionError: naming the first check that fails.

    Example:
        >>> report = check_bijection(Permute(4), torch.rand(3, 4))  # raises where something is wrong
        >>> max(report.values()) < 1e-3
        True
    """
    probe = _Probe(layer, x, c, perturb, seed)
    errors: dict[str, float] = {}
    checks: list[tuple[str, Callable[[_Probe], float], float]] = [
        ("shapes and dtypes", _shapes, 0.0),
        ("inputs unchanged", _inputs_unchanged, 0.0),
        ("round trip inverse(forward(x))", _round_trip_x, tol),
        ("round trip forward(inverse(z))", _round_trip_z, tol),
        ("log-det of forward against autodiff", _logdet_forward, tol),
        ("log-det of inverse against autodiff", _logdet_inverse, tol),
        ("items of a batch are independent", _independent, tol),
        ("gradients: checkpoint equals store", _checkpoint_gradients, tol),
        (
            "gradients: reversible equals store",
            _as_stored("reversible", _Probe.gradients),
            100 * tol,
        ),
        ("double backward against differences", _double_backward, 1e-4),
        (
            "double backward: reversible equals store",
            _as_stored("reversible", _Probe.hessian_product),
            100 * tol,
        ),
        ("state dict round trip", _state_dict, 0.0),
        ("strided input", _strided, tol),
        ("float32 round trip", _float32, tol_fp32),
        ("log-det is float32 under autocast", _autocast, 0.0),
    ]
    if compile:
        checks.append(("compiles to one graph", _compiles, tol))
    for name, check, limit in checks:
        try:
            error = check(probe)
        except BijectionError as e:
            raise BijectionError(f"{type(layer).__name__}: {name}: {e}") from None
        if not error <= limit:  # NaN fails too
            raise BijectionError(
                f"{type(layer).__name__}: {name}: error {error:.2e}, allowed {limit:.0e}"
            )
        errors[name] = error
    return errors


class _Probe:
    """The float64 copy under test, its input, and random cotangents."""

    def __init__(self, layer: Bijection, x: Tensor, c: Tensor | None, perturb: float, seed: int):
        self.generator = torch.Generator().manual_seed(seed)
        self.layer = copy.deepcopy(layer).double().train()
        for p in self.layer.parameters():
            p.data.add_(self.normal(p), alpha=perturb)
        self.x = x.detach().double()
        self.c = None if c is None else c.detach().double()
        with torch.no_grad():
            self.z, self.logdet = self.layer(self.x, self.c)
        self.g_z, self.g_logdet = self.normal(self.z), self.normal(self.logdet)

    def normal(self, like: Tensor) -> Tensor:
        noise = torch.randn(like.shape, generator=self.generator, dtype=torch.float64)
        return noise.to(like.device)

    def condition(self, i: int) -> Tensor | None:
        return None if self.c is None else self.c[i : i + 1]

    def in_mode(self, memory: str) -> Bijection:
        return set_memory(Chain(copy.deepcopy(self.layer)), memory)

    def loss(self, layer: Any, x: Any, c: Any) -> Tensor:
        z, logdet = layer(x, c)
        return (self.g_z * z + 0.5 * z.square()).sum() + (self.g_logdet * logdet).sum()

    def gradients(self, layer: Any) -> list[Tensor]:
        leaves = self.leaves(layer)
        return _gradients(self.loss(layer, *leaves[:2]), leaves)

    def leaves(self, layer: Bijection) -> list[Any]:
        x = self.x.clone().requires_grad_()
        c = None if self.c is None else self.c.clone().requires_grad_()
        return [x, c, *layer.parameters()]

    def hessian_product(self, layer: Bijection) -> list[Tensor]:
        """Gradient of |grad_x loss . v| with respect to x, c and parameters."""
        leaves = self.leaves(layer)
        g = torch.autograd.grad(self.loss(layer, *leaves[:2]), leaves[0], create_graph=True)[0]
        s = (g * self.g_z.reshape(g.shape)).sum()
        return _gradients(s, leaves) if s.requires_grad else [torch.zeros(())]


def _gradients(of: Tensor, leaves: list[Any]) -> list[Tensor]:
    """With respect to those that are there; zero of those that do not take part."""
    present = [t for t in leaves if t is not None]
    found = torch.autograd.grad(of, present, allow_unused=True)
    return [torch.zeros(()) if g is None else g for g in found]


def _difference(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to max(1, largest value)."""
    if a.numel() == b.numel() == 0:
        return 0.0
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp_min(1.0))


def _worst(pairs) -> float:
    worst = 0.0
    for a, b in pairs:
        d = _difference(a, b)
        worst = d if d != d or d > worst else worst
    return worst


def _shapes(p: _Probe) -> float:
    for name, out, ld in (("forward", p.z, p.logdet), ("inverse", *p.layer.inverse(p.z, p.c))):
        if out.shape != p.x.shape:
            raise BijectionError(f"{name} maps {tuple(p.x.shape)} to {tuple(out.shape)}")
        if ld.shape != (len(p.x),):
            raise BijectionError(f"{name}'s log-det has shape {tuple(ld.shape)}, not ({len(p.x)},)")
        if out.dtype != torch.float64 or ld.dtype != torch.float64:
            raise BijectionError(f"{name} of a float64 layer returns {out.dtype} and {ld.dtype}")
    return 0.0


def _inputs_unchanged(p: _Probe) -> float:
    x, z = p.x.clone(), p.z.clone()
    with torch.no_grad():
        p.layer(x, p.c), p.layer.inverse(z, p.c)
    return max(_difference(x, p.x), _difference(z, p.z))


def _round_trip_x(p: _Probe) -> float:
    with torch.no_grad():
        x, ld = p.layer.inverse(p.z, p.c)
    return max(_difference(x, p.x), _difference(-ld, p.logdet))


def _round_trip_z(p: _Probe) -> float:
    with torch.no_grad():
        x, _ = p.layer.inverse(p.z, p.c)
        return _difference(p.layer(x, p.c)[0], p.z)


def _autodiff_logdet(p: _Probe, f: Callable, at: Tensor) -> Tensor:
    """log|det| of the Jacobian of ``f`` at each item."""
    n, found = at[0].numel(), []
    for i in range(len(at)):
        of_item = lambda v, i=i: f(v, p.condition(i))[0]  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(of_item, at[i : i + 1])
        found.append(torch.linalg.slogdet(jacobian.reshape(n, n))[1])
    return torch.stack(found)


def _logdet_forward(p: _Probe) -> float:
    return _difference(p.logdet, _autodiff_logdet(p, p.layer, p.x))


def _logdet_inverse(p: _Probe) -> float:
    with torch.no_grad():
        logdet = p.layer.inverse(p.z, p.c)[1]
    return _difference(logdet, _autodiff_logdet(p, p.layer.inverse, p.z))


def _independent(p: _Probe) -> float:
    with torch.no_grad():
        alone = [p.layer(p.x[i : i + 1], p.condition(i)) for i in range(len(p.x))]
    z, ld = (torch.cat(t) for t in zip(*alone, strict=True))
    return max(_difference(z, p.z), _difference(ld, p.logdet))


def _as_stored(memory: str, gradients: Callable) -> Callable[[_Probe], float]:
    """``gradients`` of the layer in this memory mode against those of store mode."""

    def check(p: _Probe) -> float:
        pair = (gradients(p, p.in_mode(mode)) for mode in (memory, "store"))
        return _worst(zip(*pair, strict=True))

    return check


_checkpoint_gradients = _as_stored("checkpoint", _Probe.gradients)
_reversible_gradients = _as_stored("reversible", _Probe.gradients)
_reversible_double_backward = _as_stored("reversible", _Probe.hessian_product)


def _double_backward(p: _Probe) -> float:
    """The Hessian-vector product by autograd against central differences of the gradient."""
    layer = p.in_mode("store")
    product = p.hessian_product(layer)[0]
    h = 1e-5
    v = p.g_z.reshape(p.x.shape)
    sides = []
    for sign in (1, -1):
        x = (p.x + sign * h * v).requires_grad_()
        sides.append(torch.autograd.grad(p.loss(layer, x, p.c), x)[0])
    return _difference(product, (sides[0] - sides[1]) / (2 * h))


def _state_dict(p: _Probe) -> float:
    other = copy.deepcopy(p.layer)
    with torch.no_grad():
        for t in other.state_dict().values():
            if t.is_floating_point():
                t.add_(1.0)
        other.load_state_dict(p.layer.state_dict())
        return _difference(other(p.x, p.c)[0], p.z)


def _strided(p: _Probe) -> float:
    """An input whose memory is laid out backwards gives the same."""
    order = list(range(p.x.dim()))[::-1]
    x = p.x.permute(order).contiguous().permute(order)
    with torch.no_grad():
        return _difference(p.layer(x, p.c)[0], p.z)


def _float32(p: _Probe) -> float:
    layer = copy.deepcopy(p.layer).float()
    x, c = p.x.float(), None if p.c is None else p.c.float()
    with torch.no_grad():
        z, ld = layer(x, c)
        back, ld_back = layer.inverse(z, c)
    return max(_difference(back, x), _difference(-ld_back, ld))


def _autocast(p: _Probe) -> float:
    layer = copy.deepcopy(p.layer).float()
    c = None if p.c is None else p.c.float()
    with torch.no_grad(), torch.autocast(p.x.device.type, torch.bfloat16):
        ld = layer(p.x.float(), c)[1]
    if ld.dtype != torch.float32:
        raise BijectionError(f"it is {ld.dtype}")
    return 0.0


def _compiles(p: _Probe) -> float:
    torch.compiler.reset()
    layer = p.in_mode("store")
    run = torch.compile(layer, backend="aot_eager", fullgraph=True)
    back = torch.compile(layer.inverse, backend="aot_eager", fullgraph=True)
    z, ld = run(p.x, p.c)
    x, ld_back = back(p.z, p.c)
    worst = _worst([(z, p.z), (ld, p.logdet), (x, p.x), (-ld_back, p.logdet)])
    return max(worst, _worst(zip(p.gradients(run), p.gradients(layer), strict=True)))
