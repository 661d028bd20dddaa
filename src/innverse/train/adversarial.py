"""Adversarial training: the critic descends its loss, then the generator descends its own.

    z ~ N(0, I)    D <- D - grad L_D(x, G(z))    G <- G - grad L_G(D(G(z)))

Both with an optimiser, a guard and a place in the checkpoint of their own; the rest, from resuming
bit for bit to the average that is saved, is that of every training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..data.crops import n_levels
from ..fitting.descent import Descent
from ..seeding import stream
from .trainer import Trainer, descent

STANDING_BATCHES = 32
"""Batches of samples from which the averaged generator gets the statistics of its batch norms."""


class AdversarialTrainer(Trainer):
    """A `Trainer` of models with a ``generator``, a ``critic`` and a loss for each (`GAN`)."""

    def _descents(self) -> dict[str, Descent]:
        return {
            "guard": descent(self.model.generator, self.settings, "generator."),
            "critic_guard": descent(self.model.critic, self.settings, "critic."),
        }

    def _update(self, n: int, batch: tuple, flag: Tensor) -> dict[str, Any]:
        images, noise, *_ = batch
        model, critic = self.model, self.model.critic
        if self._objective is None:
            self._objective = self.world.wrap(_Player(model.generator, model.decode))
            self._judge = self.world.wrap(_Player(critic, model.critic_loss))
            model.train()
        lr = self.learning_rate(n)
        real = (images.float() + noise) / n_levels(images)
        fake = self._objective(torch.randn(len(images), model.latent, device=self.device))

        critic_loss = self._judge(real, fake.detach())
        critic_norm = self.descents["critic_guard"].gradient(critic_loss)
        shared = self.world.mean(critic_loss.detach().double()).item()
        ratio = (self.settings.critic_lr or self.settings.lr) / self.settings.lr
        critic_reason = self.descents["critic_guard"].step(n, shared, critic_norm, ratio * lr)

        critic.requires_grad_(False)  # its weights need no gradient here, only its input
        loss = model.generator_loss(fake)
        norm = self.descents["guard"].gradient(loss)
        critic.requires_grad_(True)
        values = torch.stack([loss.detach(), flag])
        loss, stop = self.world.mean(values.double()).tolist()
        reason = self.descents["guard"].step(n, loss, norm, lr)
        return {
            "loss": loss,
            "nll": shared,
            "grad_norm": norm,
            "critic_grad_norm": critic_norm,
            "lr": lr,
            "skipped": reason or (critic_reason and f"critic: {critic_reason}"),
            "stop": stop > 0,
        }

    def _averaged(self):
        """The averaged model, with the statistics that its own batch norms see.

        Those of the weights of the moment do not fit averaged weights: colours fade (Brock et al.
        2019, section 3, "standing statistics").
        """
        g = stream(self.settings.seed, 0, "standing statistics")
        norms = [m for m in self.ema.generator.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
        self.ema.train()
        with torch.no_grad():
            for _ in range(STANDING_BATCHES):
                z = torch.randn(self.settings.batch_size, self.ema.latent, generator=g)
                self.ema.decode(z.to(self.device))
        return self.ema.eval()


class _Player(nn.Module):
    """One network with the function that runs it, so that DDP synchronises its gradients alone."""

    def __init__(self, network: nn.Module, run):
        super().__init__()
        self.network, self._run = network, run

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._run(*inputs)
