"""A posterior of parameters: their marginals for the observation that it stands for."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import history
from .card import Block, Card, Facts, Note, Soft, number, shape_of
from .marginals import SHOWN, Marginals
from .shown import Shown
from .words import words

if TYPE_CHECKING:
    from ..amortized.corrected import CorrectedPosterior
    from ..amortized.posterior import Posterior
    from ..solvers.posterior.approximate.amortised import AmortisedPosterior
    from ..solvers.posterior.modes.joint import JointPosterior

DRAWS = 1000  # from which marginals are told, with seed 0


def card(posterior: Posterior) -> Card:
    """Without an observation its names and bounds; with `Posterior.set_default_x` its marginals."""
    d, shape = len(posterior.names), ", ".join(map(str, posterior.x_shape))
    what = (
        f"{d} parameters given x ({shape}), {posterior.config['density']}, "
        f"{posterior.n_parameters} weights, {posterior.n_simulations} simulations"
    )
    blocks: list[Block] = []
    if posterior.default_x is None:
        blocks += [Facts(_bounds(posterior)), *_more(posterior)]
        blocks.append(Soft("set_default_x(x) shows the marginals of an observation"))
    else:
        draws, said = draws_of(posterior)
        blocks += [Soft(f"given its default x, {DRAWS} draws:"), Marginals(draws, posterior.names)]
        blocks += [Note(text) for text in said]
    if posterior.n_excluded:
        blocks.append(Note(f"{posterior.n_excluded} simulations were left out: NaN or infinite"))
    return Card("Posterior", what, blocks=blocks + _curves(posterior))


def bidirectional(posterior: Any) -> Card:
    """Of a learned simulator and its inverse."""
    d, shape = len(posterior.names), ", ".join(map(str, posterior.x_shape))
    weights = sum(p.numel() for p in posterior.network.parameters())
    what = f"{d} parameters given x ({shape}), {weights} weights"
    names = Facts({"parameters": ", ".join(words(n, 40) for n in posterior.names[:SHOWN])})
    return Card(type(posterior).__name__, what, blocks=[names, *_curves(posterior)])


def corrected(exact: CorrectedPosterior) -> Card:
    """Of draws that are weighed by the true density."""
    rough = exact.posterior
    inside = rough._card() if isinstance(rough, Shown) else Card(type(rough).__name__)
    what = f"of {inside.words or inside.title}, weighed by the true density"
    return Card("CorrectedPosterior", what, blocks=inside.blocks)


def of_images(posterior: AmortisedPosterior) -> Card:
    """Of images, as a conditional flow has learned them."""
    from .model import card as model
    from .physics import card as operator

    level = torch.as_tensor(posterior.noise)
    noise = number(float(level)) if level.dim() == 0 else f"{len(level)} levels, one an item"
    measured = operator(posterior.physics)
    facts = Facts({"operator": f"{measured.title}: {measured.words}", "noise": noise})
    inside = model(posterior.model)
    return Card("AmortisedPosterior", f"of images, {inside.words}", blocks=[facts, *inside.blocks])


def joint(found: JointPosterior) -> Card:
    """Of an image with its noise level and a parameter of its operator."""
    from .reconstruction import card as images

    done = found.converged
    verdict = f"{int(done.sum())} of {len(done)} converged"
    blocks: list[Block] = []
    if len(names := drawn(found)):
        blocks.append(Marginals(torch.stack(list(names.values()), 1), list(names)))
    blocks += images(found.images).blocks
    what = f"of {len(done)} images {shape_of(found.images.x.shape[1:])}"
    return Card("JointPosterior", what, bool(done.all()), verdict, blocks)


def drawn(found: JointPosterior) -> dict[str, Tensor]:
    """Noise level and parameter of each item {name: draws (S,)}."""
    kinds = {"noise": found.noise, "parameter": found.parameter}
    return {
        name if t.shape[1] == 1 else f"{name} of item {k}": t[:, k]
        for name, t in kinds.items()
        if t is not None
        for k in range(t.shape[1])
    }


def draws_of(posterior: Any, x: Any = None, n: int = DRAWS) -> tuple[Tensor, list[str]]:
    """Draws (n, D) with seed 0, and what was warned of."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        generator = torch.Generator().manual_seed(0)
        draws = posterior.sample((n,), x=x, generator=generator)
    return draws.cpu(), [str(w.message) for w in said]


def _bounds(posterior: Posterior) -> dict[str, str]:
    low, high = posterior.bounds
    pairs = zip(posterior.names[:SHOWN], low.tolist(), high.tolist())
    return {words(name, 40): f"{number(a)} to {number(b)}" for name, a, b in pairs}


def _more(posterior: Posterior) -> list[Block]:
    hidden = len(posterior.names) - SHOWN
    return [Soft(f"… and {hidden} more parameters")] if hidden > 0 else []


def _curves(posterior: Any) -> list[Block]:
    if posterior.history is None:
        return []
    told = history.card(posterior.history)
    return [Soft(f"training: {told.words}, {told.verdict}"), *told.blocks]
