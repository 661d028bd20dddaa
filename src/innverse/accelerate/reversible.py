"""Back-propagation through a chain whose states are recomputed from its output.

An invertible network needs no stored activations: the input of every layer follows from its
output (Gomez et al. 2017, arXiv 1707.04585). One `autograd.Function` per chain walks back.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
from torch import Tensor

from ..device import runs_ahead
from . import handwritten
from .autocast import autocast_dtype, with_autocast
from .tape import Tape, parameters_of

log = logging.getLogger("innverse")

DRIFT_TOLERANCE = 1e-2
_CHECK_EVERY = 64  # a GPU is waited for then, and not at the first step, which may be recorded


def run_reversible(chain, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    """``chain(x, c)`` at the memory of one layer instead of all of them."""
    if torch.compiler.is_compiling():
        return _outside_graphs()(chain, x, c)
    return _run(chain, x, c)


def _run(chain, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    parameters = list(chain.parameters()) or parameters_of(chain)
    return _Reversible.apply(chain, x, c, *parameters)


@functools.cache
def _outside_graphs():
    """`_run` as `torch.compile` must leave it. A decorator would import the compiler, which takes
    seconds, whenever innverse is imported."""
    return torch.compiler.disable(_run)


class _Reversible(torch.autograd.Function):
    # Parameters and condition are explicit inputs, so that autograd.grad, DDP hooks and frozen
    # parameters behave as in any other module.

    @staticmethod
    def forward(ctx, chain, x, c, *params):
        device = x.device.type
        ctx.autocast = device, autocast_dtype(device)
        tape = Tape()
        z, logdet = chain.record(x, c, tape)
        if z is x:  # a chain of identities: an output must not be an input
            z = x.clone()
        ctx.chain, ctx.ids = chain, [id(p) for p in params]
        ctx.save_for_backward(x, z, c, *params, *tape.anchors)
        return z, logdet

    @staticmethod
    def backward(ctx, *gradients):
        g_z, g_logdet = gradients
        x, z, c, *rest = ctx.saved_tensors
        params, anchors = rest[: len(ctx.ids)], rest[len(ctx.ids) :]
        if handwritten.wants_formula(g_z, g_logdet):
            return _exact(ctx, x, c, params, g_z, g_logdet)

        if c is not None:
            c = c.detach().requires_grad_(ctx.needs_input_grad[2])
        tape = Tape(anchors, ctx.autocast)
        rebuilt, g_x = ctx.chain.pull_back(z, g_z, g_logdet, c, tape)
        tape.measure(rebuilt, x)
        _report_drift(ctx.chain, tape.drift)
        g_params = [tape.gradients.get(i) for i in ctx.ids]
        return None, g_x, tape.condition_gradient, *g_params


def _exact(ctx, x, c, params, g_z, g_logdet):
    """create_graph=True: differentiate the stored chain, from the saved input, exactly."""
    names = [f"chain.{name}" for name, _ in ctx.chain.named_parameters()]

    def formula(x, c, *params):
        with with_autocast(*ctx.autocast):
            weights = dict(zip(names, params, strict=True))
            return torch.func.functional_call(_Walk(ctx.chain), weights, (x, c))

    inputs = [x, c, *params]
    needed = [t is not None and t.requires_grad for t in inputs]
    return None, *handwritten.exact(formula, inputs, (g_z, g_logdet), needed)


class _Walk(torch.nn.Module):
    """A chain in store mode, for `functional_call`."""

    def __init__(self, chain):
        super().__init__()
        self.chain = chain

    def forward(self, x, c):
        return self.chain.walk(x, c)


def _report_drift(chain: Any, drift: Any) -> None:
    chain.drift = drift
    turn = _CHECK_EVERY - 1 if runs_ahead(drift.device) else 0
    if chain.backward_count % _CHECK_EVERY == turn and not drift <= DRIFT_TOLERANCE:
        log.warning(
            "reversible chain of %d layers: states rebuilt with error %.1e (tolerance %.0e); "
            "gradients are inexact, set anchor_every or memory='checkpoint'",
            len(chain.layers),
            float(drift),
            DRIFT_TOLERANCE,
        )
    chain.backward_count += 1
