"""What one loss moves: parameters with their optimiser, and the guard that refuses bad steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from innverse.errors import NotConvergedError
from innverse.train.config import TrainConfig
from innverse.train.guard import Guard

__all__ = ["Descent"]


class Descent:
    """AdamW on the parameters of a module, with clipped gradients.

    Args:
        module: what to train.
        settings: of the optimiser, the clipping and the guard.
        prefix: goes before the names of the parameters in checkpoints.
    """

    def __init__(self, module: nn.Module, settings: TrainConfig, prefix: str = ""):
        self.settings = settings
        self.guard = Guard(settings.skip_factor, settings.skip_jump)
        self.parameters = {
            prefix + name: p for name, p in module.named_parameters() if p.requires_grad
        }
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def gradient(self, loss: Tensor) -> float:
        """Back-propagate a scalar, clip; the norm of the gradient before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip)
        return norm.item()

    def step(self, n: int, loss: float, norm: float, lr: float) -> str | None:
        """Move along the gradient, or refuse and say why; ``n`` counts the steps of the run.

        Raises:
            NotConvergedError: too many steps in a row were refused.
        """
        reason = self.guard.judge(loss, norm)
        if reason is None:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
        elif self.guard.in_a_row >= self.settings.max_skips:
            raise NotConvergedError(
                f"training diverged: the last {self.guard.in_a_row} steps up to step {n + 1} were "
                f"refused ({reason}); lower train.lr or train.clip and start over with --no-resume"
            )
        return reason

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
