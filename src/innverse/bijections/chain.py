"""Composition: a chain of bijections, and how much memory its gradient may take."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..accelerate.compiled import layer_by_layer
from ..accelerate.joined import joined
from ..accelerate.matrices import ByStep, Matrices, Steps, apply_matrix, per_item
from ..accelerate.modes import MODES, run_chain
from ..accelerate.modes import set_memory as set_memory
from ..accelerate.tape import Tape
from ..shapes import positions
from .base import Bijection, zero_logdet


def _call(step: Bijection, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    return step(x, c)


def _walk(steps, x: Tensor, c: Tensor | None, total: Tensor) -> tuple[Tensor, Tensor]:
    for step in steps:
        x, logdet = step(x, c)
        total = total + logdet
    return x, total


class Chain(Bijection):
    """f = f_k o ... o f_1; log-determinants add.

    ``memory`` says what back-propagation keeps: ``"store"`` every activation (fastest),
    ``"checkpoint"`` one state per layer, ``"reversible"`` one state in all (layers are inverted
    on the way back; ``anchor_every=m`` keeps every m-th state to bound the rounding drift, whose
    size the last backward pass leaves in ``drift``). ``"auto"`` picks one of them at the first
    batch, see `choose_memory`. Conditioner networks must be deterministic.

    Neighbouring channel-linear layers (ActNorm, 1x1 convolution, permutation ...) are folded
    into one matrix when they run, so ActNorm before a 1x1 convolution costs one convolution.

    `torch.compile` compiles a chain of more than four layers layer by layer, which takes seconds
    where one graph takes minutes; fullgraph=True makes it one graph all the same.

    Example:
        >>> chain = Chain(ActNorm(4), Invertible1x1(4), Coupling.build(4, innverse.nets.MLP))
        >>> x = torch.rand(5, 4)
        >>> z, log_det = chain(x)
        >>> torch.allclose(chain.inverse(z)[0], x, atol=1e-5)
        True
    """

    def __init__(self, *layers: Bijection, memory: str = "store", anchor_every: int | None = None):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.memory = memory
        self.anchor_every = anchor_every
        self.drift: Tensor | None = None
        self.backward_count = 0
        self._folded = Steps()

    @property
    def _steps(self) -> Steps:
        """The layers with neighbours folded; made again when ``layers`` has changed."""
        layers = tuple(self.layers)
        if layers == self._folded.layers:
            return self._folded
        steps = Steps(layers)
        if not torch.compiler.is_compiling():  # an export may set no attribute
            self._folded = steps
        return steps

    @property
    def memory(self) -> str:
        return self._memory

    @memory.setter
    def memory(self, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"memory={mode!r}: choose one of {', '.join(MODES)}")
        self._memory = mode

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return run_chain(self, x, c)

    @layer_by_layer()
    def walk(
        self, x: Tensor, c: Tensor | None, run=_call, tape: Tape | None = None
    ) -> tuple[Tensor, Tensor]:
        """The layers one after another, each by ``run(step, x, c)``."""
        steps = self._steps if tape is not None else self._steps.given(c)
        matrices, logabsdet = self._matrices(steps)
        total = zero_logdet(x)
        if matrices:
            total = total + per_item(logabsdet, x)
        if run is _call and (short := joined(self, "forward", steps, matrices, x, c)):
            return _walk(short, x, c, total)
        for i, step in enumerate(steps.all):
            if tape is not None and self._is_anchor(i):
                tape.anchors.append(x)
            if i in matrices:
                x = apply_matrix(*matrices[i], x)
            else:
                x, logdet = run(step, x, c)
                total = total + logdet
        return x, total

    def record(self, x: Tensor, c: Tensor | None, tape: Tape) -> tuple[Tensor, Tensor]:
        return self.walk(x, c, lambda step, x, c: step.record(x, c, tape), tape)

    @layer_by_layer()
    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        steps = self._steps.given(c)
        matrices, logabsdet = self._inverse_matrices(steps)
        total = zero_logdet(z)
        if matrices:
            total = total + per_item(logabsdet, z)
        if short := joined(self, "inverse", steps, matrices, z, c):
            return _walk(short, z, c, total)
        for i, step in reversed([*enumerate(steps.all)]):
            if i in matrices:
                z = apply_matrix(*matrices[i], z)
            else:
                z, logdet = step.inverse(z, c)
                total = total + logdet
        return z, total

    def pull_back(self, z, g_z, g_logdet, c, tape):
        steps = self._steps
        with tape.recompute():
            matrices = Matrices(steps.linear)
        for i, step in reversed([*enumerate(steps.all)]):
            if i in steps.linear:
                z, g_z = matrices.pull_back(i, z, g_z)
            else:
                z, g_z = step.pull_back(z, g_z, g_logdet, c, tape)
            if self._is_anchor(i):
                z = tape.replace_by_anchor(z)
        matrices.collect(g_logdet, positions(z), tape)
        return z, g_z

    @layer_by_layer(compile=False)
    def _matrices(self, steps: Steps) -> ByStep:
        return steps.forward()

    @layer_by_layer(compile=False)
    def _inverse_matrices(self, steps: Steps) -> ByStep:
        return steps.inverse()

    def initialize_(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        for layer in self._steps.layers:
            x = layer.initialize_(x, c)
        return x

    def _is_anchor(self, i: int) -> bool:
        return bool(self.anchor_every) and i > 0 and i % self.anchor_every == 0

    def extra_repr(self) -> str:
        return "" if self.memory == "store" else f"memory={self.memory!r}"
