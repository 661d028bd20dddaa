"""One process of the torchrun tests: worker.py {gradients,run,die} CONFIG OUT."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from innverse.cli.train import train
from innverse.train import Trainer, load_config
from innverse.train.distributed import distributed
from innverse.train.sources import TrainingImages


def gradients(config: str, out: str) -> None:
    settings = load_config(config)
    with distributed(torch.device("cpu")) as world:
        trainer = Trainer(settings, TrainingImages(settings, world), world)
        trainer.initialize()
        row = trainer.step()
        tensors = {n: p.grad for n, p in trainer.model.named_parameters()}
        tensors |= {f"after/{n}": p.detach() for n, p in trainer.model.named_parameters()}
        tensors["nll"] = torch.tensor(row["nll"], dtype=torch.float64)
        torch.save(tensors, f"{out}.{world.rank}")


def main(task: str, config: str, out: str) -> int:
    torch.set_num_threads(1)
    if task == "gradients":
        gradients(config, out)
        return 0
    if task == "die":
        step = Trainer.step

        def dying(self, stop=False):
            if self.world.rank == 1 and self.step_number == 13:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, stop)

        Trainer.step = dying
    return train(Path(config), out=Path(out), device="cpu")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
