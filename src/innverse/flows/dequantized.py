"""Integer pixels as draws from the density that their likelihood is that of."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.crops import dequantize
from ..errors import InputError, UsageError


def dequantized(x: Tensor, levels: int, generator: torch.Generator | None = None) -> Tensor:
    """x as it is, or, where it holds integers 0 .. levels - 1, (x + u) / levels in [0, 1).

    Raises:
        UsageError: levels outside 2..65536. InputError: integers outside their range.
    """
    if not 2 <= levels <= 2**16:
        raise UsageError(f"levels={levels}: 2 to 65536")
    if x.is_floating_point():
        return x
    x = x.to(torch.uint8) if x.dtype == torch.bool else x
    if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < levels:
        raise InputError(
            f"x holds integers from {int(x.min())} to {int(x.max())}: with levels={levels} they "
            f"are 0 to {levels - 1}"
        )
    noise = None
    if generator is not None and generator.device != x.device:
        noise = torch.rand(x.shape, generator=generator, device=generator.device).to(x.device)
    return dequantize(x, generator, noise, levels=levels)
