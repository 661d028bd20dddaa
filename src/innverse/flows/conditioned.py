"""A flow whose condition is fixed: everything that takes a condition takes this one."""

from __future__ import annotations

import functools
import inspect

from torch import Tensor

from ..errors import UsageError
from ..showing.shown import Shown

_FOREIGN = ("context", "cond", "condition", "conditions", "conditioning", "sigma")


def condition_is_c(method):
    """A method that says so where a condition comes under the name it has in other libraries."""

    @functools.wraps(method)
    def call(self, *args, **options):
        for name in _FOREIGN:
            if name in options:
                raise UsageError(
                    f"{method.__name__} has no argument {name!r}: the condition is called c"
                )
        return method(self, *args, **options)

    return call


class ConditionedFlow(Shown):
    """A flow whose condition is fixed; made by `Flow.at`.

    It has all that the flow has, without the argument ``c``. What gives the flow itself, such as
    ``to`` and ``eval``, gives this view of it.

    Example:
        >>> flow = innverse.flows.build("realnvp", (2,), condition=3)
        >>> at = flow.at(torch.rand(3))
        >>> at.sample(5).shape, at.log_prob(torch.rand(4, 2)).shape
        (torch.Size([5, 2]), torch.Size([4]))
    """

    def __init__(self, flow, c: Tensor | float):
        self.flow, self.c = flow, c

    def __getattr__(self, name: str):
        if name in ("flow", "c") or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(name)  # also while it is being copied or unpickled
        found = getattr(self.flow, name)
        return self._bound(found) if inspect.ismethod(found) else found

    def _card(self):
        from ..showing.model import conditioned

        return conditioned(self)

    def __call__(self, x: Tensor) -> Tensor:
        return self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x, self.c)

    def encode(self, x: Tensor, **options) -> Tensor:
        return self.flow.encode(x, self.c, **options)

    def decode(self, z: Tensor, **options) -> Tensor:
        return self.flow.decode(z, self.c, **options)

    def denoise(self, y: Tensor, views: int = 1) -> Tensor:
        """The denoised y, from the noise level that this is the flow of."""
        return self.flow.denoise(y, self.c, views)

    def at(self, c: Tensor | float) -> ConditionedFlow:
        """The flow with another condition."""
        return self.flow.at(c)

    def _bound(self, method):
        """``method`` of the flow with the condition filled in, if it takes one."""
        takes_c = "c" in inspect.signature(method).parameters

        @functools.wraps(method)
        def call(*args, **options):
            if takes_c and "c" in options:
                raise UsageError("the condition of this flow is fixed: use at(c) for another")
            if takes_c:
                bound = inspect.signature(functools.partial(method, c=self.c))
                args, options = _by_name(bound, args, options)
                options["c"] = self.c
            found = method(*args, **options)
            return self if found is self.flow else found

        return call


def _by_name(signature: inspect.Signature, args, options) -> tuple[tuple, dict]:
    """Positional arguments by their names, counted without the condition."""
    names = [name for name in signature.parameters if name != "c"]
    if len(args) > len(names):
        raise TypeError(f"takes {len(names)} arguments without the condition, got {len(args)}")
    return (), dict(zip(names, args, strict=False)) | options
