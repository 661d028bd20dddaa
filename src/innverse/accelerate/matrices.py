"""Maps z = W x + b on channels: neighbours folded, made together, and kept while nothing changes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..device import runs_ahead
from ..errors import ShapeError
from ..shapes import positions
from . import handwritten
from .autocast import without_autocast
from .constant import inputs_vary, promised, remember
from .layout import is_channels_last
from .tape import Tape, parameters_of

Matrix = tuple[Tensor, Tensor, Tensor]  # W, b, log|det W|
ByStep = tuple[dict[int, tuple[Tensor, Tensor]], Tensor | float]  # W and b; the sum of log|det W|

_FEW = 64  # channels up to which a matrix product beats a convolution with a 1x1 kernel
_CONV = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


class Linear(Protocol):
    """What is needed of a layer z = W x + b; a layer without ``inverse_matrix`` is none."""

    training: bool

    @property
    def parts(self) -> Sequence[Linear]:
        """The layers whose product this is."""
        ...

    def arguments(self) -> tuple[Tensor, ...]: ...

    def formula(self, *arguments: Tensor) -> Matrix: ...

    def matrix(self) -> Matrix: ...

    def inverse_matrix(self) -> Tensor: ...


def _is_linear(layer: object) -> bool:
    return hasattr(layer, "inverse_matrix")


def _is_diagonal_given(layer: object) -> bool:
    """Whether it is z = s x + b for a condition that all items share, of which ``given(c)`` tells s, b
    and log|det|."""
    return hasattr(layer, "given")


class Folded:
    """Neighbours run as one matrix; the layers stay who they are."""

    def __init__(self, parts: Sequence[Linear]):
        self.parts = tuple(parts)

    def matrix(self) -> Matrix:
        return functools.reduce(_then, [part.matrix() for part in self.parts])

    def inverse_matrix(self) -> Tensor:
        w = self.parts[-1].inverse_matrix().double()
        for part in self.parts[-2::-1]:
            v = part.inverse_matrix().double()
            w = _product(v, v.dim() == 1, w, w.dim() == 1)
        return w


class Steps:
    """The layers of a chain with channel-linear neighbours folded, and the matrices of those steps.

    The matrices of both directions are kept in eval mode while no gradient reaches them; one
    comparison of values tells whether they still hold, since fused optimisers move no version counters.
    """

    def __init__(self, layers: tuple = ()):
        self.layers = layers
        self.all = tuple(_fold(layers))
        self.linear = {i: s for i, s in enumerate(self.all) if _is_linear(s)}
        self._parts = [part for step in self.linear.values() for part in step.parts]
        self._diagonal = [
            i for i, s in enumerate(self.all) if i + 1 in self.linear and _is_diagonal_given(s)
        ]
        self._values: Tensor | None = None
        self._kept: tuple[ByStep, ByStep] | None = None

    def forward(self) -> ByStep:
        if kept := self.kept():
            return kept[0]
        made = Matrices(self.linear)
        return made.of, made.logabsdet

    def inverse(self) -> ByStep:
        return (self.kept() or self._both_ways())[1]

    def given(self, c: Tensor | None) -> Steps | OfOneCondition:
        """The steps where all items have the condition c, and it and the parameters are promised to
        stay. Else these."""
        if not self._diagonal or c is None or c.requires_grad or inputs_vary() or not promised():
            return self
        if runs_ahead(c.device):  # nobody may wait for whether conditions are equal
            return self
        kept = self.kept()
        if kept is None:
            return self
        return remember(self._diagonal, (c,), lambda: self._of_one_condition(c, *kept))

    def _of_one_condition(self, c: Tensor, there: ByStep, back: ByStep) -> Steps | OfOneCondition:
        alike = c.dim() == 2 and len(c) > 0 and bool((c == c[:1]).all())
        return OfOneCondition(self, c[:1], there, back) if alike else self

    def kept(self) -> tuple[ByStep, ByStep] | None:
        """Both directions, or None where nothing may be kept."""
        return remember(self, (), self._look_up) if self.linear else None

    def are_kept(self) -> bool:
        """Whether `forward` and `inverse` give the same objects as before."""
        return not self.linear or self.kept() is not None

    def _look_up(self) -> tuple[ByStep, ByStep] | None:
        if (
            not handwritten.applies()  # comparing values would end in torch.func and torch.compile
            or (inputs_vary() and not promised())  # and nobody may wait for a comparison
            or any(part.training for part in self._parts)
        ):
            return None
        state = [t for part in self._parts for t in part.arguments()]
        learning = torch.is_grad_enabled() and any(t.requires_grad for t in state)
        if learning or any(t.is_inference() for t in state):
            return None
        with torch.inference_mode(False), torch.no_grad():
            values = torch.cat([t.flatten() for t in state])
            if self._kept is None or not _same(self._values, values):
                self._kept, self._values = self._both_ways(), values
        return self._kept

    def _both_ways(self) -> tuple[ByStep, ByStep]:
        found = {i: both_ways(step) for i, step in self.linear.items()}
        total = sum((logabsdet for (_, _, logabsdet), _, _ in found.values()), 0.0)
        forward = {i: (w, b) for i, ((w, b, _), _, _) in found.items()}
        return (forward, total), ({i: (w, b) for i, (_, w, b) in found.items()}, -total)

    def __getstate__(self):
        return {"layers": self.layers}

    def __setstate__(self, state):
        self.__init__(**state)


class OfOneCondition:
    """Steps of which those that are diagonal given c (1, k) are folded into the next matrices."""

    def __init__(self, steps: Steps, c: Tensor, there: ByStep, back: ByStep):
        self.all: list = []
        self._there, self._back, self._logabsdet = {}, {}, there[1]
        for i, step in enumerate(steps.all):
            if i in steps._diagonal:
                continue
            if i in steps.linear:
                pair = there[0][i], back[0][i]
                if i - 1 in steps._diagonal:
                    *diagonal, logabsdet = steps.all[i - 1].given(c)
                    pair = _after(*diagonal, *pair)
                    self._logabsdet = self._logabsdet + logabsdet
                self._there[len(self.all)], self._back[len(self.all)] = pair
            self.all.append(step)

    def are_kept(self) -> bool:
        return True

    def forward(self) -> ByStep:
        return self._there, self._logabsdet

    def inverse(self) -> ByStep:
        return self._back, -self._logabsdet


def _after(scale: Tensor, shift: Tensor, there: tuple, back: tuple) -> tuple:
    """W, b and W^-1, -W^-1 b where x is scaled and shifted first."""
    (w, b), (v, a) = there, back
    a = (a - shift) / scale
    if w.dim() == 1:
        return (w * scale, w * shift + b), (v / scale, a)
    return (w * scale, torch.addmv(b, w, shift)), (v / scale.unsqueeze(1), a)


def _same(kept: Tensor | None, values: Tensor) -> bool:
    return (
        kept is not None
        and kept.dtype == values.dtype
        and kept.device == values.device
        and torch.equal(kept, values)
    )


def _fold(layers: Sequence) -> list:
    steps, run = [], []
    for layer in [*layers, None]:
        if _is_linear(layer):
            run.append(layer)
            continue
        if run:
            steps.append(run[0] if len(run) == 1 else Folded(run))
            run = []
        if layer is not None:
            steps.append(layer)
    return steps


class Matrices:
    """W and b of the steps, by index in ``of``; ``logabsdet`` is the sum of log|det W|.

    Made with gradients on, `pull_back` walks back through a step and `collect` then sends what it
    gathered to the parameters, in one go.
    """

    def __init__(self, steps: Mapping[int, Linear]):
        self.steps = steps
        kinds: dict[tuple, list[int]] = {}
        for i, step in steps.items():
            kinds.setdefault(_kind(step), []).append(i)
        self.of: dict[int, tuple[Tensor, Tensor]] = {}
        self._kinds, self._inverses = list(kinds.values()), {}
        self.logabsdet: Tensor | float = 0.0
        for indices in kinds.values():
            found, logabsdet = _evaluate_together([steps[i] for i in indices])
            self.of.update(zip(indices, found, strict=True))
            self.logabsdet = self.logabsdet + logabsdet
        self._gradients: dict[int, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def pull_back(self, i: int, z: Tensor, g_z: Tensor) -> tuple[Tensor, Tensor]:
        """From the output of step i and its gradient to those of its input."""
        w, b = (t.detach() for t in self.of[i])
        if w.dim() == 1:
            x, g_x = apply_matrix(1 / w, -b / w, z), apply_matrix(w, torch.zeros_like(b), g_z)
            g_w = _per_channel(g_z * x)
        else:
            x = apply_matrix(*self._inverse(i), z)
            g_x = apply_matrix(w.T, torch.zeros_like(b), g_z)
            g_w = _rows(g_z).T @ _rows(x)
        self._gradients[i] = g_w, _per_channel(g_z)
        return x, g_x

    def _inverse(self, i: int) -> tuple[Tensor, Tensor]:
        """W^-1 and -W^-1 b of step i, made with those of all steps of its kind."""
        if i not in self._inverses:
            indices = next(indices for indices in self._kinds if i in indices)
            w = torch.stack([self.of[j][0].detach() for j in indices])
            b = torch.stack([self.of[j][1].detach() for j in indices])
            w_inv = torch.linalg.inv_ex(w.double()).inverse  # unchecked: a GPU would be waited for
            b_inv = -(w_inv @ b.double().unsqueeze(-1)).squeeze(-1)
            pairs = zip(w_inv.to(w.dtype).unbind(), b_inv.to(b.dtype).unbind(), strict=True)
            self._inverses |= dict(zip(indices, pairs, strict=True))
        return self._inverses[i]

    def collect(self, g_logdet: Tensor, positions: int, tape: Tape) -> None:
        """The gradients of the parameters, from those of the matrices and of log|det|."""
        if not self.of:
            return
        outputs, gradients = [self.logabsdet], [g_logdet.sum() * positions]
        for i, (g_w, g_b) in self._gradients.items():
            w, b = self.of[i]
            outputs += [w, b]
            gradients += [g_w.to(w.dtype), g_b.to(b.dtype)]
        parts = [part for i in self.of for part in self.steps[i].parts]
        parameters = [p for part in parts for p in parameters_of(part)]
        tape.collect(outputs, gradients, (), None, parameters)


def both_ways(step: Linear) -> tuple[Matrix, Tensor, Tensor]:
    """(W, b, log|det W|), W^-1 and -W^-1 b."""
    with without_autocast(step.parts[0].arguments()[0].device.type):
        w, b, logabsdet = step.matrix()
        w_inv = step.inverse_matrix().double()
        b_inv = w_inv * b.double() if w_inv.dim() == 1 else w_inv @ b.double()
    return (w, b, logabsdet), w_inv.to(w.dtype), -b_inv.to(b.dtype)


def _evaluate_together(layers: Sequence[Linear]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """W and b of all ``layers``, of one kind and size, and the sum of their log|det|."""
    factors = []
    with without_autocast(layers[0].parts[0].arguments()[0].device.type):
        for parts in zip(*(layer.parts for layer in layers), strict=True):
            arguments = zip(*(part.arguments() for part in parts), strict=True)
            factors.append(parts[0].formula(*(torch.stack(a) for a in arguments)))
        w, b, logabsdet = functools.reduce(_then, factors)
    return list(zip(w.unbind(), b.unbind(), strict=True)), logabsdet.sum()


def _kind(layer: Linear) -> tuple:
    """What two layers must share to be evaluated together."""
    return tuple(
        (type(part), tuple((a.shape, a.dtype, a.device) for a in part.arguments()))
        for part in layer.parts
    )


def _then(first: Matrix, second: Matrix) -> Matrix:
    """The map ``first`` followed by ``second``."""
    (w1, b1, d1), (w2, b2, d2) = first, second
    diagonal1, diagonal2 = w1.dim() == b1.dim(), w2.dim() == b2.dim()
    b = w2 * b1 if diagonal2 else (w2 @ b1.unsqueeze(-1)).squeeze(-1)
    return _product(w2, diagonal2, w1, diagonal1), b + b2, d1 + d2


def _product(v: Tensor, v_diagonal: bool, w: Tensor, w_diagonal: bool) -> Tensor:
    """The matrix v w, where the entries of a diagonal may stand for it."""
    if v_diagonal:
        return v * w if w_diagonal else v.unsqueeze(-1) * w
    return v * w.unsqueeze(-2) if w_diagonal else v @ w


def apply_matrix(w: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """W x + b at every position of x (B, C, *space), of at most three dimensions."""
    if not 2 <= x.dim() <= 5 or x.shape[1] != w.shape[-1]:
        layout = f"(B, {w.shape[-1]}, ...)"
        raise ShapeError(f"a channel-linear layer takes {layout}, got {tuple(x.shape)}")
    # the state of the flow keeps its precision whatever autocast the caller is under
    with without_autocast(x.device.type):
        return product(w, b, x)


def product(w: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """`apply_matrix` where shapes are known to fit, and no autocast is on."""
    if w.dim() == 1:
        shape = (-1,) + (1,) * (x.dim() - 2)
        return torch.addcmul(b.view(shape), x, w.view(shape))
    if x.dim() == 2:
        return F.linear(x, w, b)
    exact = x.device.type == "cuda"  # where convolutions keep 10 bits of their factors (TF32)
    # PyTorch 2.11 may compile the gradient of permuted products for other strides than they get
    permuted = (exact or len(w) <= _FEW) and not torch.compiler.is_compiling()
    if x.dim() == 4 and permuted and is_channels_last(x):
        return F.linear(x.permute(0, 2, 3, 1), w, b).permute(0, 3, 1, 2)
    if exact:
        return (w @ x.flatten(2) + b.unsqueeze(1)).unflatten(2, x.shape[2:])
    return _CONV[x.dim()](x, w.view(w.shape + (1,) * (x.dim() - 2)), b)


def per_item(logabsdet: Tensor, x: Tensor) -> Tensor:
    """log|det| of the whole item: once per position, for each of the batch."""
    return (logabsdet * positions(x)).expand(x.shape[0])


def _rows(x: Tensor) -> Tensor:
    """(B, C, *space) as one row of C channels per position."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def _per_channel(x: Tensor) -> Tensor:
    return _rows(x).sum(0)
