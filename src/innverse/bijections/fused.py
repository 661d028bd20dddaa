"""A coupling as one node of the graph, where C++ kernels serve both its network and its map."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import handwritten
from ..constant import remember
from ..native import perceptron
from ..native.memory import dense, plain
from ..native.split import Split
from .base import sum_per_item


@dataclass(frozen=True)
class Fused:
    """What a coupling with condition c amounts to: a plain network, and a map with a kernel."""

    split: Split
    kind: perceptron.Kind
    map: object
    tensors: tuple[Tensor, ...]
    condition: Tensor | None  # appended to the kept channels

    @classmethod
    def find(cls, coupling, x: Tensor, c: Tensor | None) -> Fused | None:
        """The parts of ``coupling`` for inputs like x, or None where no kernel serves it."""
        if not (handwritten.applies() and plain(x)):
            return None
        given = (c, x.dim(), x.dtype, x.device, x.numel() > 0)
        return remember(coupling, given, lambda: cls._make(coupling, x, c))

    @classmethod
    def _make(cls, coupling, x: Tensor, c: Tensor | None) -> Fused | None:
        map, net, split = coupling.map, coupling.net, coupling.split
        kernel = vars(type(map)).get("kernel")  # not inherited: a subclass has its own formula
        if kernel is None or not hasattr(net, "as_plain") or not kernel.available(map):
            return None
        found = net.as_plain(x, c)
        if found is None:
            return None
        kind, tensors, condition = found
        if condition is not None and not plain(condition):
            return None
        given = split.keep + (0 if condition is None else condition.shape[1])
        if not perceptron.applies(x, kind, tensors, given):
            return None
        if len(tensors[-1]) != map.n_params * (split.channels - split.keep):
            return None
        return cls(split, kind, map, tensors, condition)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(z, logdet)."""
        if self._needs_graph(x):
            return _Forward.apply(self, x, self.condition, *self.tensors)
        x = dense(x)
        p, _ = self.network(x, self.condition, keep=False)
        return self.map.kernel.coupling_forward(self.map, self.split, x, p)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor] | None:
        """(x, logdet), or None where a gradient is wanted that the kernel has not."""
        if self._needs_graph(z):
            if not hasattr(self.map.kernel, "coupling_inverse_backward"):
                return None
            return _Inverse.apply(self, z, self.condition, *self.tensors)
        z = dense(z)
        p, _ = self.network(z, self.condition, keep=False)
        return self.map.kernel.coupling_inverse(self.map, self.split, z, p)

    def undo(self, z: Tensor, g_z: Tensor, g_logdet: Tensor):
        """From z and its gradients to x, g_x, and the gradients of condition and tensors."""
        z, g_z = dense(z), dense(g_z)
        tensors = [t.detach() for t in self.tensors]
        needed = [t.requires_grad for t in self.tensors]
        condition = None if self.condition is None else self.condition.detach()
        signs = perceptron.signs_suffice(self.kind, needed)
        p, kept = self.network(z, condition, keep=True, signs=signs)
        x, _ = self.map.kernel.coupling_inverse(self.map, self.split, z, p)
        g_x, g_p = self.map.kernel.coupling_backward(
            self.map, self.split, x, p, g_z, g_logdet.contiguous()
        )
        return x, *self.network_backward(x, condition, tensors, kept, g_p, g_x, needed, signs)

    @functools.cached_property
    def weights(self) -> perceptron.Weights:
        return perceptron.Weights([t.detach() for t in self.tensors])

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

    def forward_formula(self, x, condition, *tensors):
        return self._formula(self.map.forward, x, condition, tensors)

    def inverse_formula(self, z, condition, *tensors):
        return self._formula(self.map.inverse, z, condition, tensors)

    def _formula(self, map, x, condition, tensors):
        a, b = self.split.apart(x)
        given = a if condition is None else torch.cat((a, condition), 1)
        p = perceptron.formula(self.kind, given, *tensors)
        b, log_derivative = map(b, p.unflatten(1, (self.map.n_params, -1)))
        return self.split.merge(a, b), sum_per_item(log_derivative)

    def _rows(self, x: Tensor, condition: Tensor | None) -> perceptron.Rows:
        if condition is None:
            return perceptron.Rows(x, self.split.first_kept, self.split.keep)
        given = torch.cat((self.split.apart(x)[0], condition), 1)
        return perceptron.Rows(given, 0, given.shape[1])

    def _needs_graph(self, x: Tensor) -> bool:
        inputs = (x, self.condition, *self.tensors)
        return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)


class _Node(torch.autograd.Function):
    """What both directions share; a subclass says which way it maps."""

    direction: str

    @classmethod
    def run(cls, ctx, fused, x, condition, tensors):
        kernel = fused.map.kernel
        given = dense(x)
        ctx.signs = perceptron.signs_suffice(fused.kind, ctx.needs_input_grad[3:])
        p, kept = fused.network(given, condition, keep=True, signs=ctx.signs)
        out, logdet = getattr(kernel, f"coupling_{cls.direction}")(fused.map, fused.split, given, p)
        # checkpointing sees and drops saved tensors only, so the node holds no others of its own;
        # those of frozen networks are there anyway
        frozen = not any(ctx.needs_input_grad[2:])
        ctx.fused = fused if frozen else replace(fused, tensors=(), condition=None)
        ctx.n = len(tensors)
        # the gradient of the inverse is read off its result
        of = given if cls.direction == "forward" else out
        ctx.save_for_backward(x, condition, *tensors, of, p, *kept)
        return out, logdet

    @classmethod
    def gradients(cls, ctx, backward, g, g_logdet):
        fused, saved = ctx.fused, ctx.saved_tensors
        x, condition, tensors = saved[0], saved[1], saved[2 : 2 + ctx.n]
        of, p, *kept = saved[2 + ctx.n :]
        needed = ctx.needs_input_grad[1:]
        if handwritten.wants_formula(g, g_logdet):
            return None, *_exact(fused, cls.direction, x, condition, tensors, (g, g_logdet), needed)
        fused = fused if fused.tensors else replace(fused, tensors=tensors)
        g = dense(g)
        g_x, g_p = backward(fused.map, fused.split, of, p, g, g_logdet.contiguous())
        g_x, g_c, found = fused.network_backward(
            of, condition, tensors, kept, g_p, g_x, needed[2:], ctx.signs
        )
        return None, g_x, g_c, *found


class _Forward(_Node):
    direction = "forward"

    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, fused, x, condition, *tensors):
        return _Forward.run(ctx, fused, x, condition, tensors)

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, g_z, g_logdet):
        return _Forward.gradients(ctx, ctx.fused.map.kernel.coupling_backward, g_z, g_logdet)


class _Inverse(_Node):
    direction = "inverse"

    @staticmethod
    @handwritten.in_given_types
    def forward(ctx, fused, z, condition, *tensors):
        return _Inverse.run(ctx, fused, z, condition, tensors)

    @staticmethod
    @handwritten.in_given_types
    def backward(ctx, g_x, g_logdet):
        return _Inverse.gradients(
            ctx, ctx.fused.map.kernel.coupling_inverse_backward, g_x, g_logdet
        )


def _exact(fused, direction, x, condition, tensors, gradients, needed):
    """create_graph=True: gradients that can be differentiated again."""
    formula = getattr(fused, f"{direction}_formula")
    if condition is None:
        inputs, wanted = (x, *tensors), (needed[0], *needed[2:])
        found = handwritten.exact(lambda x, *t: formula(x, None, *t), inputs, gradients, wanted)
        return [found[0], None, *found[1:]]
    return handwritten.exact(formula, (x, condition, *tensors), gradients, needed)
