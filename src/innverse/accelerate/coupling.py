"""A coupling as one node of the graph, where C++ kernels serve both its network and its map."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

import torch
from torch import Tensor

from . import handwritten
from .constant import promised, remember
from .native import perceptron
from .native.memory import dense, plain
from .plain import served_by_kernel
from .split import Split

Class = TypeVar("Class", bound=type)

_FUSED = set()  # methods that `fused` has made


def fused(coupling: Class) -> Class:
    """A class decorator: kernels serve couplings of this class where they can. Its own methods are
    the definition, and run where the kernels do not."""
    cls: Any = coupling
    forward, inverse, pull_back = cls.forward, cls.inverse, cls.pull_back

    @functools.wraps(forward)
    def fused_forward(self, x, c=None):
        found = Fused.find(self, x, c)
        return forward(self, x, c) if found is None else found.forward(x)

    @functools.wraps(inverse)
    def fused_inverse(self, z, c=None):
        found = Fused.find(self, z, c)
        # None where a gradient is wanted that the kernel has not
        return (found and found.inverse(z)) or inverse(self, z, c)

    @functools.wraps(pull_back)
    def fused_pull_back(self, z, g_z, g_logdet, c, tape):
        with tape.recompute():
            found = Fused.find(self, z, c)
        if found is None:
            return pull_back(self, z, g_z, g_logdet, c, tape)
        x, g_x, g_c, gradients = found.pull_back(z, g_z, g_logdet)
        outputs, gradients = [*found.tensors], [*gradients]
        if g_c is not None:
            outputs, gradients = [*outputs, found.condition], [*gradients, g_c]
        tape.collect(outputs, gradients, (), c, self.net)
        return x, g_x

    cls.forward, cls.inverse, cls.pull_back = fused_forward, fused_inverse, fused_pull_back
    _FUSED.update((fused_forward, fused_inverse))
    return coupling


def is_fused(coupling: Any, direction: str) -> bool:
    """Whether its class takes ``"forward"`` or ``"inverse"`` from one that is `fused`, and does nothing
    else."""
    return getattr(type(coupling), direction, None) in _FUSED


class Fused:
    """What a coupling with condition c amounts to: a plain network, and a map with a kernel."""

    def __init__(
        self,
        split: Split,
        transform: Any,
        kind: perceptron.Kind,
        tensors: tuple[Tensor, ...],
        condition: Tensor | None,  # appended to the kept channels
        weights: perceptron.Weights | None,  # the tensors as the kernel takes them
    ):
        self.split, self.transform, self.kind = split, transform, kind
        self.tensors, self.condition = tensors, condition
        self.weights: Any = weights  # None only without tensors

    @classmethod
    def find(cls, coupling: Any, x: Tensor, c: Tensor | None) -> Fused | None:
        """The parts of ``coupling`` for inputs like x, or None where no kernel serves it."""
        if not (handwritten.applies() and plain(x)):
            return None
        if not promised():
            return cls._make(coupling, x, c)
        given = (c, x.dim(), x.shape[1:2], x.numel() > 0)
        return remember(coupling, given, lambda: cls._make(coupling, x, c))

    @classmethod
    def _make(cls, coupling: Any, x: Tensor, c: Tensor | None) -> Fused | None:
        transform, net, split = coupling.transform, coupling.net, coupling.split
        # not inherited: a subclass has its own formula
        kernel = vars(type(transform)).get("kernel")
        if kernel is None or not hasattr(net, "as_plain") or not kernel.available(transform):
            return None
        if x.dim() < 2 or x.shape[1] != split.channels:
            return None
        found = served_by_kernel(net, x, c, split.keep)
        given = transform.n_params * (split.channels - split.keep)
        if found is None or len(found.tensors[-1]) != given:
            return None
        return cls(split, transform, *found)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(z, logdet)."""
        if self._needs_graph(x):
            return _Node.apply(self, "forward", x, self.condition, *self.tensors)
        x = dense(x)
        p, _ = self.network(x, self.condition, keep=False)
        return self.transform.kernel.coupling_forward(self.transform, self.split, x, p)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor] | None:
        """(x, logdet), or None where a gradient is wanted that the kernel has not."""
        if self._needs_graph(z):
            if not hasattr(self.transform.kernel, "coupling_inverse_backward"):
                return None
            return _Node.apply(self, "inverse", z, self.condition, *self.tensors)
        z = dense(z)
        p, _ = self.network(z, self.condition, keep=False)
        return self.transform.kernel.coupling_inverse(self.transform, self.split, z, p)

    def pull_back(self, z: Tensor, g_z: Tensor, g_logdet: Tensor):
        """From z and its gradients to x, g_x, and the gradients of condition and tensors."""
        tensors = [t.detach() for t in self.tensors]
        needed = [t.requires_grad for t in self.tensors]
        condition = None if self.condition is None else self.condition.detach()
        signs = perceptron.signs_suffice(self.kind, needed)
        x, _, kept = self.through("inverse", z, condition, signs)
        return x, *self.back("forward", kept, condition, tensors, g_z, g_logdet, needed, signs)

    def through(self, direction: str, x: Tensor, condition: Tensor | None, signs: bool):
        """The result, its log-determinant, and what `back` needs, in this direction or from the result
        in the other; with ``signs`` that knows no gradients of the tensors."""
        x = dense(x)
        p, kept = self.network(x, condition, keep=True, signs=signs)
        run = getattr(self.transform.kernel, f"coupling_{direction}")
        out, logdet = run(self.transform, self.split, x, p)
        # both gradients are read off what is not mapped yet, which of the inverse is its result
        return out, logdet, (x if direction == "forward" else out, p, *kept)

    def back(
        self, direction: str, kept, condition, tensors, g: Tensor, g_logdet: Tensor, needed, signs
    ):
        """The gradients of x, the condition and the ``tensors``."""
        of, p, *kept = kept
        kernel, inverse = self.transform.kernel, direction == "inverse"
        run = kernel.coupling_inverse_backward if inverse else kernel.coupling_backward
        g_x, g_p = run(self.transform, self.split, of, p, dense(g), g_logdet.contiguous())
        return self.network_backward(of, condition, tensors, kept, g_p, g_x, needed, signs)

    def network(self, x, condition, keep: bool, signs: bool = False):
        rows = self._rows(x, condition)
        return perceptron.forward(rows, self.kind, self.weights, keep, signs)

    def network_backward(self, x, condition, tensors, kept, g_p, g_x, needed, signs):
        """g_x with the network's part added, and the gradients of condition and tensors."""
        g_x = dense(g_x)
        rows = self._rows(x, condition)
        if condition is None:
            to = perceptron.Rows(g_x, self.split.first_kept, self.split.keep)
        else:
            to = perceptron.Rows(torch.zeros_like(rows.tensor), 0, rows.channels)
        found = perceptron.backward(
            rows, self.kind, self.weights, tensors, kept, g_p, to, needed, signs
        )
        if condition is None:
            return g_x, None, found
        self.split.apart(g_x)[0].add_(to.tensor[:, : self.split.keep])
        return g_x, to.tensor[:, self.split.keep :], found

    def formula(self, direction: str, x: Tensor, condition: Tensor | None, *tensors: Tensor):
        """``"forward"`` or ``"inverse"`` in PyTorch's own operations."""
        a, b = self.split.apart(x)
        given = a if condition is None else torch.cat((a, condition), 1)
        p = perceptron.formula(self.kind, given, *tensors)
        p = p.unflatten(1, (self.transform.n_params, -1))
        b, log_derivative = getattr(self.transform, direction)(b, p)
        return self.split.merge(a, b), log_derivative.flatten(1).sum(1)

    def without_tensors(self) -> Fused:
        return Fused(self.split, self.transform, self.kind, (), None, None)

    def _rows(self, x: Tensor, condition: Tensor | None) -> perceptron.Rows:
        if condition is None:
            return perceptron.Rows(x, self.split.first_kept, self.split.keep)
        given = torch.cat((self.split.apart(x)[0], condition), 1)
        return perceptron.Rows(given, 0, given.shape[1])

    def _needs_graph(self, x: Tensor) -> bool:
        return torch.is_grad_enabled() and any(
            t is not None and t.requires_grad for t in (x, self.condition, *self.tensors)
        )


class _Node(torch.autograd.Function):
    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, found, direction, x, condition, *tensors):
        ctx.signs = perceptron.signs_suffice(found.kind, ctx.needs_input_grad[4:])
        out, logdet, kept = found.through(direction, x, condition, ctx.signs)
        # checkpointing sees and drops saved tensors only, so the node holds no others of its own;
        # those of frozen networks are there anyway
        frozen = not any(ctx.needs_input_grad[3:])
        ctx.found = found if frozen else found.without_tensors()
        ctx.direction, ctx.n = direction, len(tensors)
        ctx.save_for_backward(x, condition, *tensors, *kept)
        return out, logdet

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, *gradients):
        found, (x, condition, *saved) = ctx.found, ctx.saved_tensors
        tensors, kept = saved[: ctx.n], saved[ctx.n :]
        if handwritten.wants_formula(*gradients):
            formula = functools.partial(found.formula, ctx.direction)
            inputs, needed = (x, condition, *tensors), ctx.needs_input_grad[2:]
            return None, None, *handwritten.exact(formula, inputs, gradients, needed)
        if not found.tensors:
            weights = perceptron.Weights(tensors)
            found = Fused(found.split, found.transform, found.kind, tuple(tensors), None, weights)
        needed = ctx.needs_input_grad[4:]
        g_x, g_c, rest = found.back(
            ctx.direction, kept, condition, tensors, *gradients, needed, ctx.signs
        )
        return None, None, g_x, g_c, *rest
