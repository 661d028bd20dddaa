"""Where a prior has density: every support of `torch.distributions` as a region with a map."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import constraints, transforms

from ..errors import InputError, ShapeError, warn
from .regions import (
    Box,
    CorrelationCholesky,
    LowerCholesky,
    LowerTriangular,
    PositiveDefinite,
    Region,
    Regions,
    Simplex,
    Symmetric,
    Through,
    whole_line,
)

_C = constraints
_MATRICES = {
    type(_C.lower_triangular): LowerTriangular,
    type(_C.lower_cholesky): LowerCholesky,
    type(_C.symmetric): Symmetric,
    type(_C.positive_definite): PositiveDefinite,
    type(_C.positive_semidefinite): PositiveDefinite,
    type(_C.corr_cholesky): CorrelationCholesky,
}
_FREE = (type(_C.real), type(_C.square))
_ASKED = 256  # points at which a prior is asked for its density


def region_of(prior, n: int) -> Regions:
    """The region of ``n`` parameters (flattened) in which ``prior`` has density.

    Taken from its ``bounds`` (a pair), else from the ``support`` of a `torch.distributions` object,
    which of transformed distributions and mixtures is not believed but derived: torch says "real"
    of 2 + 3 u with u uniform. Unbounded where nothing is known.

    Raises:
        InputError: a support that is discrete, in pieces, or unknown; one line names it.
    """
    bounds = getattr(prior, "bounds", None)
    if bounds is not None:
        return Regions([Box(*as_bounds(bounds, n))])
    parts = None
    if isinstance(prior, td.Distribution):
        shape = prior.batch_shape + prior.event_shape
        if shape.numel() == n:
            parts = _of_distribution(prior, shape)
    support = _support(prior)
    if parts is None and isinstance(support, _C.Constraint):
        parts = _of_constraint(support, torch.Size((n,)))
    region = Regions(parts or [whole_line(n)])
    if region.size != n:
        raise ShapeError(f"the prior has {region.size} parameters, theta has {n}")
    return region


def as_bounds(bounds, n: int) -> tuple[Tensor, Tensor]:
    """(low, high), each (n,), from a pair of numbers or vectors; None in it means unbounded.

    Raises:
        InputError, ShapeError: not a pair, NaN, or of another length.
    """
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise InputError("bounds: give a pair (low, high) of numbers or vectors") from None
    ends = []
    for end, none in ((low, -math.inf), (high, math.inf)):
        try:
            if isinstance(end, list | tuple):
                end = [none if v is None else float(v) for v in end]
            end = torch.as_tensor(none if end is None else end, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise InputError("bounds: give numbers, or None where there is no bound") from None
        if end.dim() > 1 or (end.dim() == 1 and len(end) not in (1, n)):
            raise ShapeError(f"bounds of shape {tuple(end.shape)} do not fit {n} parameters")
        if bool(end.isnan().any()):
            raise InputError("bounds: NaN is no bound; give None where there is none")
        ends.append(end.expand(n).clone())
    return ends[0], ends[1]


def ask_prior(prior, region: Regions, theta: Tensor) -> None:
    """Warn where ``prior.log_prob`` knows of an end that the region does not.

    Asked at points of the region about the draws theta (N, D).
    """
    log_prob = getattr(prior, "log_prob", None)
    if log_prob is None or not len(theta):
        return
    v = region.to_line(theta.double())[0]
    g = torch.Generator().manual_seed(0)
    spread = torch.randn(min(_ASKED, len(v)), v.shape[1], dtype=v.dtype, generator=g)
    points = region.from_line(v.mean(0) + v.std(0) * spread, theta.dtype)
    shape = getattr(prior, "event_shape", points.shape[1:])
    batch = getattr(prior, "batch_shape", ())
    try:
        points = points.reshape(-1, *batch, *shape)
        with torch.no_grad():
            drawn = theta[: len(points)].reshape(points.shape)
            known = torch.as_tensor(log_prob(drawn))
    except Exception:  # its densities are not for us: it may know only another type or shape
        return
    if not bool(known.isfinite().all()):
        return
    try:
        with torch.no_grad():
            value = torch.as_tensor(log_prob(points)).reshape(len(points), -1).sum(1)
        empty = int((value == -math.inf).sum() + value.isnan().sum())
        share = f"at {empty} of {len(points)} points"
    except ValueError:  # torch's validation
        empty, share = 1, "everywhere"
    if empty:
        warn(
            f"the prior does not have density {share} of what its bounds or support allow: the "
            "posterior may draw there; give bounds= (or a prior whose support says where it ends)",
        )


# ---- distributions ------------------------------------------------------------------------------


def _of_distribution(d: td.Distribution, shape: torch.Size) -> list[Region] | None:
    """The regions of one draw of ``shape``, flattened; None if the distribution does not say."""
    if isinstance(d, td.Independent):
        return _of_distribution(d.base_dist, shape)
    if isinstance(d, td.VonMises):  # torch says "real", and draws angles from -pi to pi
        return [Box(*(torch.full((shape.numel(),), e) for e in (-math.pi, math.pi)))]
    if isinstance(d, td.MixtureSameFamily):
        return _of_mixture(d, shape)
    if isinstance(d, td.TransformedDistribution) and (
        type(d).support is td.TransformedDistribution.support
    ):
        base = d.base_dist
        parts = _of_distribution(base, base.batch_shape + base.event_shape)
        if parts is None:
            return None
        return _transformed(parts, base.batch_shape + base.event_shape, d.transforms)
    support = _support(d)
    return None if support is None else _of_constraint(support, shape)


def _support(prior):
    try:
        return getattr(prior, "support", None)
    except NotImplementedError:  # what torch's base class says
        return None


def _of_mixture(d: td.MixtureSameFamily, shape: torch.Size) -> list[Region]:
    """One interval around those of the components, if they overlap or are equal."""
    components = d.component_distribution
    parts = _of_distribution(components, components.batch_shape + components.event_shape)
    axis = len(components.batch_shape) - 1
    if parts is None or not all(isinstance(p, Box) for p in parts):
        # equal regions of all components: those of one of them
        return _of_constraint(_support(d), shape)
    low, high = (
        torch.cat([getattr(p, end) for p in parts])
        .view(components.batch_shape + components.event_shape)
        .movedim(axis, 0)
        .reshape(components.batch_shape[axis], -1)
        for end in ("low", "high")
    )
    differ = bool(((low != low[:1]) | (high != high[:1])).any())
    order = low[:, 0].argsort()
    reach = high[order, 0].cummax(0).values
    if differ and (low.shape[1] > 1 or bool((low[order, 0][1:] > reach[:-1]).any())):
        raise InputError(
            "the prior is a mixture whose components end at different places, a support in pieces "
            "that no map can follow: give bounds=(low, high) that hold all of them"
        )
    return [Box(low.amin(0), high.amax(0))]


def _transformed(parts: list[Region], shape: torch.Size, chain) -> list[Region]:
    """The image of regions under transforms, one after the other."""
    for t in chain:
        parts, shape = _image(parts, shape, t)
    return parts


def _image(parts, shape: torch.Size, t) -> tuple[list[Region], torch.Size]:
    after = t.forward_shape(shape)
    if isinstance(t, transforms.ComposeTransform):
        return _transformed(parts, shape, t.parts), after
    if isinstance(t, transforms.IndependentTransform):
        return _image(parts, shape, t.base_transform)
    if isinstance(t, transforms.ReshapeTransform):
        return parts, after
    region = Regions(parts)
    if all(isinstance(p, Box) for p in region.parts):
        low, high = region.low.view(shape), region.high.view(shape)
        if isinstance(t, transforms.StackTransform | transforms.CatTransform):
            return [Box(*_piecewise(t, low, high))], after
        if t.domain.event_dim == 0:
            return [Box(*(end.flatten() for end in _ends_of_image(t, low, high)))], after
        if bool((low == -math.inf).all() and (high == math.inf).all()):
            return _of_constraint(t.codomain, after), after
    if not t.bijective:
        raise InputError(
            f"the prior's support under {type(t).__name__} cannot be mapped: give "
            "bounds=(low, high), None where there is no bound"
        )
    return [Through(t, region, shape, after)], after


def _ends_of_image(t, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Of intervals under a monotone function of one variable, or |.|."""
    if isinstance(t, transforms.AbsTransform):
        a, b = low.abs(), high.abs()
        return torch.where((low < 0) & (high > 0), 0.0, torch.minimum(a, b)), torch.maximum(a, b)
    first, last = t(low), t(high)
    # what a function tends to at infinity is the end of its codomain, whatever it rounds to
    box = Regions(_of_constraint(t.codomain, low.shape))
    near, far = box.low.view(low.shape), box.high.view(low.shape)
    middle = torch.where(low.isfinite(), low + 1, torch.where(high.isfinite(), high - 1, 0.0))
    middle = torch.where(low.isfinite() & high.isfinite(), (low + high) / 2, middle)
    falls = torch.where(low.isfinite(), t(middle) < first, t(middle) > last)
    free = ~low.isfinite() & ~high.isfinite()
    falls = torch.where(free, t(middle + 1) < t(middle), falls)
    first = torch.where(low.isfinite(), first, torch.where(falls, far, near))
    last = torch.where(high.isfinite(), last, torch.where(falls, near, far))
    # a pole or a logarithm of 0
    first = torch.where(first.isnan(), torch.where(falls, far, near), first)
    last = torch.where(last.isnan(), torch.where(falls, near, far), last)
    return torch.minimum(first, last), torch.maximum(first, last)


def _piecewise(t, low: Tensor, high: Tensor) -> list[Tensor]:
    """The ends under several transforms side by side."""
    stacked = isinstance(t, transforms.StackTransform)
    sizes = [1] * len(t.transforms) if stacked else list(t.lengths)
    made: list[list[Tensor]] = [[], []]
    for each, a, b in zip(t.transforms, low.split(sizes, t.dim), high.split(sizes, t.dim)):
        parts, _ = _image([Box(a.flatten(), b.flatten())], a.shape, each)
        region = Regions(parts)
        made[0].append(region.low.view(a.shape))
        made[1].append(region.high.view(a.shape))
    return [torch.cat(ends, t.dim).flatten() for ends in made]


# ---- constraints --------------------------------------------------------------------------------


def _of_constraint(c, shape: torch.Size) -> list[Region]:
    """The regions of one value of ``shape`` under a constraint, flattened."""
    if isinstance(c, _C._IndependentConstraint):
        return _of_constraint(c.base_constraint, shape)
    if isinstance(c, _C._Cat | _C._Stack):
        return _side_by_side(c, shape)
    if isinstance(c, _C._Dependent):
        raise InputError(
            "the prior's support depends on what is not known: give bounds=(low, high), None where "
            "there is no bound"
        )
    if c.is_discrete:
        raise InputError(
            f"the prior's support {_name(c)} is discrete, and a density cannot hold it: leave "
            "that parameter out, or give it a continuous prior"
        )
    # older PyTorch gives the support of the mixture's components itself
    if isinstance(c, getattr(_C, "MixtureSameFamilyConstraint", ())):
        return _of_constraint(c.base_constraint, shape)
    low, high = getattr(c, "lower_bound", None), getattr(c, "upper_bound", None)
    if low is not None or high is not None:
        ends = (
            torch.as_tensor(none if end is None else end, dtype=torch.float64)
            for end, none in ((low, -math.inf), (high, math.inf))
        )
        return [Box(*(_broadcast(end, shape) for end in ends))]
    if type(c) in _FREE:
        return [whole_line(shape.numel())]
    if isinstance(c, type(_C.simplex)):
        return [Simplex(shape[-1]) for _ in range(math.prod(shape[:-1]))]
    if type(c) in _MATRICES:
        size = shape[-1] if len(shape) == 1 else math.prod(shape[-2:])
        if math.isqrt(size) ** 2 != size:
            raise ShapeError(f"the prior's support {_name(c)} needs square matrices, not {shape}")
        return [_MATRICES[type(c)](size) for _ in range(shape.numel() // size)]
    try:
        t = td.biject_to(c)
        before = t.inverse_shape(shape)
        return [Through(t, whole_line(before.numel()), before, shape)]
    except (NotImplementedError, ValueError):
        raise InputError(
            f"the prior's support {_name(c)} cannot be mapped to the line: give bounds=(low, "
            "high), None where there is no bound"
        ) from None


def _side_by_side(c, shape: torch.Size) -> list[Region]:
    """The parts of cat and stack."""
    dim = c.dim % len(shape)
    sizes = c.lengths if isinstance(c, _C._Cat) else [1] * len(c.cseq)
    if sum(sizes) != shape[dim]:
        raise ShapeError(f"the prior's support has {sum(sizes)} parts for {shape[dim]} parameters")
    made, shapes = [], []
    for each, size in zip(c.cseq, sizes):
        one = [*shape[:dim], size, *shape[dim + 1 :]]
        shapes.append(torch.Size(one))
        stacked = isinstance(c, _C._Stack) and len(shape) > 1
        inner = torch.Size(one[:dim] + one[dim + 1 :]) if stacked else shapes[-1]
        made.append(_of_constraint(each, inner))
    if shape[:dim].numel() == 1:  # then they lie one after the other
        return [part for parts in made for part in parts]
    if not all(isinstance(p, Box) for parts in made for p in parts):
        raise InputError(
            f"the prior's support {_name(c)} along axis {dim} cannot be mapped: put its parts one "
            "after the other along the first axis"
        )
    ends = []
    for end in ("low", "high"):
        parts = [torch.cat([getattr(p, end) for p in parts]) for parts in made]
        parts = [t.view(s) for t, s in zip(parts, shapes)]
        ends.append(torch.cat(parts, dim).flatten())
    return [Box(*ends)]


def _broadcast(end: Tensor, shape: torch.Size) -> Tensor:
    try:
        return end.expand(shape).flatten().clone()
    except RuntimeError:
        raise ShapeError(
            f"bounds of shape {tuple(end.shape)} do not fit a prior of shape {tuple(shape)}"
        ) from None


def _name(c) -> str:
    return type(c).__name__.strip("_")
