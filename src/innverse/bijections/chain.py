"""Composition: a chain of bijections, and how much memory its gradient may take."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..handwritten import transformed
from .automatic import choose_memory
from .base import Bijection, zero_logdet
from .channel_linear import ChannelLinear, Folded, apply_matrix, forward_by, inverse_by, per_item
from .compiled import layer_by_layer
from .matrices import Kept, Matrices
from .reversible import run_reversible
from .tape import Tape

MEMORY_MODES = ("store", "checkpoint", "reversible", "auto")


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
    """

    def __init__(self, *layers: Bijection, memory: str = "store", anchor_every: int | None = None):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.memory = memory
        self.anchor_every = anchor_every
        self.drift: Tensor | None = None
        self.backward_count = 0
        self._folded: tuple = ((), ())
        self._kept = Kept()

    @property
    def _steps(self) -> tuple[Bijection, ...]:
        """The layers with neighbours folded; made again when ``layers`` has changed."""
        layers = tuple(self.layers)
        if layers == self._folded[0]:
            return self._folded[1]
        folded = _fold_neighbours(layers)
        if not torch.compiler.is_compiling():  # an export may set no attribute
            self._folded = layers, folded
        return folded

    @property
    def memory(self) -> str:
        return self._memory

    @memory.setter
    def memory(self, mode: str) -> None:
        if mode not in MEMORY_MODES:
            raise ValueError(f"memory={mode!r}: choose one of {', '.join(MEMORY_MODES)}")
        self._memory = mode

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.memory == "auto" and torch.is_grad_enabled():
            set_memory(self, *choose_memory(self, x, c))
        reversible = self.memory == "reversible" and not transformed()
        if reversible and torch.is_grad_enabled() and self.layers:
            return run_reversible(self, x, c)
        return self.walk(x, c)

    @layer_by_layer()
    def walk(self, x: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        """The chain as it is written, in store or checkpoint mode."""
        # transforms of torch.func know no other mode than to store
        save = self.memory == "checkpoint" and torch.is_grad_enabled() and not transformed()

        def run(step: Bijection, x: Tensor) -> tuple[Tensor, Tensor]:
            # a container checkpoints its own chain: doing it here too would compute it twice
            if save and not _contains_chain(step):
                return checkpoint(step, x, c, use_reentrant=False)
            return step(x, c)

        return self._walk(x, run)

    def record(self, x: Tensor, c: Tensor | None, tape: Tape) -> tuple[Tensor, Tensor]:
        return self._walk(x, lambda step, x: step.record(x, c, tape), tape)

    @layer_by_layer(compile=False)
    def _linear_steps(self, steps) -> tuple[dict, Matrices]:
        """What is kept of the channel-linear steps, and what has to be made."""
        kept = self._kept.of(steps)
        return kept, Matrices(() if kept else steps)

    @layer_by_layer()
    def _walk(self, x: Tensor, run, tape: Tape | None = None) -> tuple[Tensor, Tensor]:
        steps = self._steps
        kept, matrices = self._linear_steps(steps)
        total = zero_logdet(x)
        if matrices.of:
            total = total + per_item(matrices.logabsdet, x)
        for i, step in enumerate(steps):
            if tape is not None and self._is_anchor(i):
                tape.anchors.append(x)
            if i in matrices.of:
                x = apply_matrix(*matrices.of[i][:2], x)
                continue
            x, logdet = forward_by(kept[i], x) if i in kept else run(step, x)
            total = total + logdet
        return x, total

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._walk_back(z, c)

    @layer_by_layer()
    def _walk_back(self, z: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        steps = self._steps
        kept, total = self._linear_steps_back(steps), zero_logdet(z)
        for i, step in reversed(list(enumerate(steps))):
            z, logdet = inverse_by(kept[i], z) if i in kept else step.inverse(z, c)
            total = total + logdet
        return z, total

    def undo(self, z, g_z, g_logdet, c, tape):
        steps = self._steps
        with tape.recompute():
            matrices = Matrices(steps)
        for i, step in reversed(list(enumerate(steps))):
            if i in matrices.of:
                z, g_z = matrices.undo(i, z, g_z)
            else:
                z, g_z = step.undo(z, g_z, g_logdet, c, tape)
            if self._is_anchor(i):
                z = tape.replace_by_anchor(z)
        matrices.collect(g_logdet, z.shape[2:].numel(), tape)
        return z, g_z

    @layer_by_layer(compile=False)
    def _linear_steps_back(self, steps) -> dict:
        """What is kept of the channel-linear steps, to go back through them."""
        return self._kept.of(steps)

    def initialize_(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer.initialize_(x, c)
        return x

    def _is_anchor(self, i: int) -> bool:
        return bool(self.anchor_every) and i > 0 and i % self.anchor_every == 0

    def extra_repr(self) -> str:
        return "" if self.memory == "store" else f"memory={self.memory!r}"


def set_memory(module: nn.Module, mode: str, anchor_every: int | None = None) -> nn.Module:
    """Set the memory mode of every chain in ``module``; returns ``module``.

    In reversible mode the outermost chain walks back through those inside it.
    """

    def visit(m: nn.Module, inside: bool) -> None:
        if isinstance(m, Chain):
            # the outermost chain walks back through the others, and chooses for them
            m.memory = "store" if inside and mode in ("reversible", "auto") else mode
            m.anchor_every = anchor_every
            inside = True
        for child in m.children():
            visit(child, inside)

    visit(module, False)
    return module


def _contains_chain(step: nn.Module) -> bool:
    return any(isinstance(m, Chain) for m in step.modules())


def _fold_neighbours(layers) -> tuple[Bijection, ...]:
    steps: list[Bijection] = []
    run: list[ChannelLinear] = []
    for layer in [*layers, None]:
        if isinstance(layer, ChannelLinear):
            run.append(layer)
            continue
        if run:
            steps.append(run[0] if len(run) == 1 else Folded(run))
            run = []
        if layer is not None:
            steps.append(layer)
    return tuple(steps)
