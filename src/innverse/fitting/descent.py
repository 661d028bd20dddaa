"""What one loss moves: parameters with their optimiser, and the guard that refuses bad steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import torch_private
from ..errors import NotConvergedError
from .guard import Guard


class Descent:
    """AdamW on the parameters of a module, with clipped gradients.

    Args:
        module: what to train.
        lr, betas, weight_decay: of AdamW; the first is what a schedule starts from.
        clip: largest norm of a gradient; longer ones are scaled down to it.
        guard: which steps to refuse; by default those that are not finite.
        max_skips: so many refused steps in a row end the training.
        prefix: goes before the names of the parameters in checkpoints.
        advice: what to do when training diverges, for the message.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.0,
        clip: float = 5.0,
        guard: Guard | None = None,
        max_skips: int = 50,
        prefix: str = "",
        advice: str = "look for extreme values in the data, or lower lr",
    ):
        self.clip, self.max_skips, self.advice = clip, max_skips, advice
        self.guard = guard or Guard.of_finite()
        self.parameters = {
            prefix + name: p for name, p in module.named_parameters() if p.requires_grad
        }
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=lr, betas=betas, weight_decay=weight_decay, fused=True
        )

    def gradient(self, loss: Tensor) -> float:
        """Back-propagate a scalar, clip; the norm of the gradient before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = torch.stack(torch_private.norms(gradients)).norm().item()
        if norm > self.clip:
            torch_private.scale_(gradients, self.clip / norm)
        return norm

    def step(
        self, n: int, loss: float, norm: float, lr: float, weight_decay: float | None = None
    ) -> str | None:
        """Move along the gradient, or refuse and say why; ``n`` counts the steps of the run.

        Raises:
            NotConvergedError: too many steps in a row were refused.
        """
        reason = self.guard.judge(loss, norm)
        if reason is None:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
                if weight_decay is not None:
                    group["weight_decay"] = weight_decay
            self.optimizer.step()
        else:
            self.end_if_stuck(n, reason)
        return reason

    def end_if_stuck(self, n: int, reason: str | None) -> None:
        """Raise NotConvergedError if too many steps in a row, up to step ``n``, were refused."""
        if self.guard.in_a_row >= self.max_skips:
            raise NotConvergedError(
                f"training diverged: the last {self.guard.in_a_row} steps up to step {n + 1} were "
                f"refused ({reason}); {self.advice}"
            )

    def tensors(self) -> dict[str, Tensor]:
        """The state of the optimiser, by names ``adamw/<moment>/<parameter>``."""
        return {
            f"adamw/{key}/{name}": value
            for name, p in self.parameters.items()
            for key, value in self.optimizer.state.get(p, {}).items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take what `tensors` gave, by names ``<moment>/<parameter>``; others are left alone."""
        for name, value in tensors.items():
            key, _, name = name.partition("/")
            p = self.parameters.get(name)
            if p is None:
                continue
            if value.shape == p.shape:
                # the fused kernel walks raw memory: moments must be laid out as their parameter
                value = torch.empty_like(p).copy_(value)
            self.optimizer.state[p][key] = value.to(p.device)
