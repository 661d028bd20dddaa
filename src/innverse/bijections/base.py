"""The contract every bijection keeps, and how a chain walks back through one without storing it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..accelerate.tape import Tape
from ..errors import InputError, ShapeError, warn
from ..models.parts import Part


class Bijection(Part, nn.Module):
    """An invertible, differentiable map f: R^n -> R^n with its log|det| in closed form.

    A subclass implements two methods with the same signature:

    ``forward(x, c=None) -> (z, logdet)``
        the normalising direction, z = f(x), logdet = log|det df/dx|.
    ``inverse(z, c=None) -> (x, logdet)``
        the generating direction, x = f^-1(z), logdet = log|det df^-1/dz|.

    ``x`` and ``z`` have the same shape (B, C, *space), so vectors (B, C) and images (B, C, H, W)
    share code. ``c`` is None, a vector (B, k) or a map (B, k, h, w). ``logdet`` has shape (B,) and
    is float32 or wider.

    A subclass must not write into its inputs, must not depend on data-dependent shapes and must
    not initialise itself inside ``forward``; `initialize` calls `initialize_` once instead.
    Everything else (memory-saving back-propagation, checks) follows from the two methods;
    `innverse.bijections.check_bijection` tests that they keep the contract.

    Example:
        >>> import math
        >>> class Double(Bijection):
        ...     def forward(self, x, c=None):
        ...         return 2 * x, x.new_full((len(x),), x[0].numel() * math.log(2))
        ...
        ...     def inverse(self, z, c=None):
        ...         return z / 2, z.new_full((len(z),), -z[0].numel() * math.log(2))
        >>> Double()(torch.ones(1, 2))
        (tensor([[2., 2.]]), tensor([1.3863]))
    """

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def record(self, x: Tensor, c: Tensor | None, tape: Tape) -> tuple[Tensor, Tensor]:
        """`forward` without a graph; containers leave what `pull_back` will need on the tape."""
        return self(x, c)

    def pull_back(
        self, z: Tensor, g_z: Tensor, g_logdet: Tensor, c: Tensor | None, tape: Tape
    ) -> tuple[Tensor, Tensor]:
        """From the output and its gradients back to ``(x, g_x)``; other gradients go to the tape.

        The default inverts and recomputes; a layer that can share the work of the two overrides.
        """
        with tape.recompute(), torch.no_grad():  # in the types of the forward pass
            x, _ = self.inverse(z, c)
        return x, tape.vjp(self, x, g_z, g_logdet, c, self)

    def initialize_(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Set data-dependent parameters from the batch ``x`` and return f(x)."""
        return self(x, c)[0]


def initialize(flow: Any, batch: Tensor, c: Tensor | None = None) -> None:
    """Set `Standardize` and every `ActNorm` of ``flow`` from one batch of data (Kingma & Dhariwal
    2018, 3.1).

    ``batch`` is (B, C, *space) with B >= 2 where possible, ``c`` its condition. The state dict
    remembers that it was done: layers that are initialised already are left as they are. A column
    that is constant in the batch is warned of: no density of it exists, and it keeps its scale.

    Raises:
        InputError: an empty batch, or NaN or Inf in it.

    Example:
        >>> layer = ActNorm(2)
        >>> x = 100 + 5 * torch.randn(1000, 2)
        >>> initialize(layer, x)  # or a whole flow, layer by layer
        >>> z, _ = layer(x)
        >>> bool((z.std(0) - 1).abs().max() < 0.01)
        True
    """
    batch = flow.as_data(batch) if hasattr(flow, "as_data") else batch
    _check_batch(batch)
    with torch.no_grad():
        flow.initialize_(batch, c)


def _check_batch(x: Tensor) -> None:
    if not len(x):
        raise InputError("the batch to initialize from is empty: give at least 2 items")
    if not bool(x.isfinite().all()):
        raise InputError("the batch to initialize from holds NaN or Inf: remove such items")
    if len(x) > 1:
        over = other_axes(x)
        constant = (x.amax(over) == x.amin(over)).nonzero().flatten().tolist()
        if constant:
            what = "column" if x.dim() == 2 else "channel"
            warn(
                f"{what} {', '.join(map(str, constant))} of x is constant in the batch to "
                "initialize from: it has no density, so leave it out or give more data",
            )


def other_axes(x: Tensor) -> list[int]:
    """All axes of x (B, C, *space) but that of the channels."""
    return [d for d in range(x.dim()) if d != 1]


def sum_per_item(t: Tensor) -> Tensor:
    """Sum over all dimensions but the first: (B, ...) -> (B,), in float32 at least."""
    if t.dim() < 2:
        raise ShapeError(f"layers take batches (B, C, ...), got {tuple(t.shape)}")
    if t.dtype in (torch.float16, torch.bfloat16):
        t = t.float()
    return t.sum(tuple(range(1, t.dim())))  # not flatten: it would copy channels_last


def zero_logdet(x: Tensor) -> Tensor:
    """The log-determinant of a map that preserves volume."""
    if x.dim() < 2:
        raise ShapeError(f"layers take batches (B, C, ...), got {tuple(x.shape)}")
    return x.new_zeros(x.shape[0], dtype=torch.promote_types(x.dtype, torch.float32))
