"""One :class:`Trainer`, one ``step()``, everything a function of the step number.

    batch(step) -> loss -> gradient -> clip -> (refuse?) -> AdamW -> EMA

Weights are averaged over steps (EMA), and it is the average that is evaluated, sampled and saved.
"""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import torch
from torch import Tensor

from ..accelerate.captured import Captured
from ..bijections import initialize, set_memory
from ..device import runs_ahead
from ..errors import InputError, UsageError
from ..fitting.average import average_, average_weight
from ..fitting.checkpoint import Checkpoint, grouped
from ..fitting.descent import Descent
from ..fitting.guard import Guard
from ..fitting.queued import QueuedDescent, average_queued_, in_words
from ..models.tensors import not_finite
from ..nets import set_precision
from ..seeding import reseed, stream_seed
from .condition import Measurements
from .config import TrainConfig, TrainingConfig
from .distributed import World
from .evaluate import evaluate, sample_images
from .losses import Objective, log_uniform
from .model import build_model
from .sources import TrainingImages

_LOST = 10  # steps without a finite loss at the end of a run: more than bad batches explain


class Trainer:
    """State of a run: model, its average, its descent, step number.

    Args:
        config: the settings.
        data: training and held-out crops.
        world: the processes that train together.
        device: where to compute.

    Example:
        >>> from innverse.train.sources import TrainingImages
        >>> settings = {"data.path": "digits", "model.levels": 1, "model.steps": 1, "model.hidden": 8}
        >>> data = TrainingImages(load_config(overrides=settings | {"train.batch_size": 8}))
        >>> trainer = Trainer(data.config, data)
        >>> trainer.initialize()
        >>> trainer.step()["skipped"], trainer.step_number
        (None, 1)
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingImages,
        world: World | None = None,
        device: torch.device | str = "cpu",
    ):
        self.config, self.data, self.world = config, data, world or World()
        self.device = torch.device(device)
        self.settings = config.train
        if self.settings.batch_size % self.world.size:
            raise UsageError(
                f"train.batch_size = {self.settings.batch_size} must be a multiple of the "
                f"{self.world.size} processes"
            )
        self.step_number = 0
        self.seconds = self.processor_seconds = 0.0  # of all steps, by the clock and by the work
        self.held_out: dict[str, float] = {}
        self._judged_at = -1
        torch.manual_seed(stream_seed(self.settings.seed, 0, "weights"))
        self.model = build_model(config).to(self.device)
        if runs_ahead(self.device):  # convolutions there would turn their kernels at each step
            self.model.to(memory_format=torch.channels_last)
        # the average is judged as it will be used: in fp32, whatever the precision of training
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        set_memory(self.model, self.settings.memory)
        set_precision(self.model, self.settings.precision)
        self.descents = self._descents()
        self._objective: Any = None
        self.queued: Any = None  # a `QueuedDescent` on a device that runs ahead
        if runs_ahead(self.device) and self.world.size == 1 and len(self.descents) == 1:
            self.queued = QueuedDescent(self.descents["guard"])
            self._captured = Captured(self._update_queued)
        self.measurements = None
        if config.condition is not None:
            self.measurements = Measurements(config.condition, config.shape, self.settings.seed)

    def _descents(self) -> dict[str, Descent]:
        """What is optimised, by the name of its guard in a checkpoint."""
        return {"guard": descent(self.model, self.settings)}

    @property
    def skipped(self) -> int:
        """Steps refused so far."""
        return sum(descent.guard.skipped for descent in self.descents.values())

    # -- one step ---------------------------------------------------------------------------

    def initialize(self) -> None:
        """Set the ActNorms from the whole first batch, or the first few where the model asks for
        more items; everybody takes rank 0's result."""
        if self.config.model.init is None:
            inputs: list[Tensor] = []
            conditions: list[Tensor | None] = []
            while sum(map(len, inputs)) < getattr(self.model, "items_to_start", 1):
                images, noise, sigma, *more = self._batch(len(inputs), World())
                inputs.append(Objective.inputs(images, noise, sigma))
                conditions.append(more[0] if more else None if sigma is None else sigma[:, None])
            given = [c for c in conditions if c is not None]
            initialize(self.model, torch.cat(inputs), torch.cat(given) if given else None)
        self.world.broadcast(self.model)
        self.ema.load_state_dict(self.model.state_dict())

    def step(self, interrupted: bool = False) -> dict[str, Any]:
        """Take one step and describe it: loss, nll, score, grad_norm, lr, skipped (a reason or None).

        ``interrupted`` is shared, so that all processes stop after the same step. On a device that
        runs ahead of Python the step is only asked for, and what it gave is for `read` to say.
        """
        n = self.step_number
        batch = self._batch(n, self.world)
        # anything random inside the model (dropout, say) is a function of the step as well
        reseed(stream_seed(self.settings.seed, n, f"model{self.world.rank}"), self.device)
        if self.queued is not None:
            row = self._ask(n, batch) | {"stop": interrupted}
        else:
            flag = torch.tensor(float(interrupted), device=self.device)
            row = self._update(n, batch, flag)
            if row["skipped"] is None:
                self._average(n)
        self.step_number = n + 1
        return {"step": n + 1} | row

    def read(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows that `step` gave, with their numbers; where they are on a device, waits for it.

        Raises:
            NotConvergedError: too many steps in a row were refused.
        """
        if self.queued is None or not rows:
            return rows
        numbers = torch.stack([row["numbers"] for row in rows]).tolist()
        found = [_described(row, *n) for row, n in zip(rows, numbers, strict=True)]
        self._copy_buffers()
        self.queued.read(rows[-1]["step"] - 1, found[-1]["skipped"])
        return found

    def _update(self, n: int, batch: tuple, flag: Tensor) -> dict[str, Any]:
        """Descend from one batch; ``flag`` travels with the numbers that processes share."""
        if self._objective is None:
            self._objective = self.world.wrap(Objective(self.model))
            self.model.train()
        descent, lr = self.descents["guard"], self.learning_rate(n)
        loss, nll, score = self._objective(*batch[:3], self.score_weight(n), *batch[3:])
        norm = descent.gradient(loss)
        values = torch.stack([loss.detach(), nll, score, flag])
        loss, nll, score, stop = self.world.mean(values.double()).tolist()
        # the reported likelihood is steadier than the loss, which moves with sigma
        reason = descent.step(n, nll if math.isfinite(loss) else loss, norm, lr)
        return {
            "loss": loss,
            "nll": nll,
            "score": score,
            "grad_norm": norm,
            "lr": lr,
            "skipped": reason,
            "stop": stop > 0,
        }

    def _ask(self, n: int, batch: tuple) -> dict[str, Any]:
        """`_update` and `_average` of a device that runs ahead."""
        if self._objective is None:
            self._objective = Objective(self.model)
            self.model.train()
        lr, memory = self.learning_rate(n), 1 / (1 - self.settings.ema)
        images, noise, sigma, *c = batch
        on_device = [
            torch.full((), number, device=self.device) for number in (lr, average_weight(n, memory))
        ]
        given = (images, noise, sigma, c[0] if c else None, *on_device)
        return {"numbers": self._captured(*given, score=self.score_weight(n)), "lr": lr}

    def _update_queued(self, images, noise, sigma, c, lr, weight, *, score: float) -> Tensor:
        """Descend and average on the device: loss, nll and score, and the numbers of the descent."""
        loss, nll, matching = self._objective(images, noise, sigma, score, c)
        judged = torch.where(loss.isfinite(), nll, loss).detach()
        numbers = self.queued.step(loss, judged, lr)
        average_queued_(self.ema.parameters(), self.model.parameters(), weight, numbers)
        return torch.cat((torch.stack((loss.detach(), nll, matching)).double(), numbers))

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to ``lr_floor``."""
        s = self.settings
        if step < s.warmup:
            return s.lr * (step + 1) / s.warmup
        progress = (step - s.warmup) / max(s.steps - s.warmup, 1)
        return s.lr * (s.lr_floor + (1 - s.lr_floor) * 0.5 * (1 + math.cos(math.pi * progress)))

    def score_weight(self, step: int) -> float:
        """Weight of the score-matching term at a step."""
        s = self.settings
        return s.score_matching if step >= s.score_matching_from * s.steps else 0.0

    def _batch(self, step: int, world: World) -> tuple:
        """This process's crops, noise and sigma of one step, and what measurements tell."""
        if self.measurements is not None:
            images = self.data.batch(step, world)
            made = self.measurements.batch(images, step, "measure", world.rank * len(images))
            return tuple(t.to(self.device) for t in (images, *made))
        images = self.data.batch(step, world, self.device)
        shape = (self.settings.batch_size, *images.shape[1:])
        g, seed = None, stream_seed(self.settings.seed, step, "noise")
        if runs_ahead(self.device):
            reseed(seed, self.device)
        else:
            g = torch.Generator().manual_seed(seed)
        draws: dict[str, Any] = {"generator": g, "device": self.device}
        sigma = None
        if self.config.model.noise is None:
            noise = torch.rand(shape, **draws)
        else:
            noise = torch.randn(shape, **draws)
            u = torch.rand(shape[0], dtype=torch.float64, **draws)
            sigma = world.share(log_uniform(u, *self.config.model.noise).float())
        return images, world.share(noise), sigma

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """The average of the weights, and the latest buffers."""
        average_(self.ema.parameters(), self.model.parameters(), step, 1 / (1 - self.settings.ema))
        self._copy_buffers()

    @torch.no_grad()
    def _copy_buffers(self) -> None:
        for mean, now in zip(self.ema.buffers(), self.model.buffers(), strict=True):
            mean.copy_(now)

    # -- evaluation -------------------------------------------------------------------------

    def evaluate(self) -> dict[str, float]:
        """Held-out numbers of the averaged weights; empty without held-out images."""
        batches = self.data.held_out(self.settings.eval_images)
        if batches:
            self.held_out = self._judged(batches)
            self._judged_at = self.step_number
        return self.held_out

    def sample(self, n: int = 16) -> Tensor:
        """(n, C, H, W) samples of the averaged weights in [0, 1]."""
        c = None
        if self.measurements is not None:
            crops = self.data.batch(0, World())[:n]
            c, n = self.measurements.batch(crops, 0, "sample")[2].to(self.device), len(crops)
        return sample_images(self._averaged(), self.config.model.noise, self.settings.seed, n, c)

    def _judged(self, batches: list[Tensor]) -> dict[str, float]:
        noise, seed = self.config.model.noise, self.settings.seed
        return evaluate(self._averaged(), batches, noise, seed, self.measurements)

    def _averaged(self):
        return self.ema.eval()

    def trouble(self) -> str | None:
        """Why the weights are of no use: they, or what they give, are not finite; None if they are.

        The latest loss says nothing of them: it is from before the latest update, and where it is
        not finite the batch may be to blame.
        """
        for model, kind in ((self.model, "weight"), (self.ema, "averaged weight")):
            if name := not_finite(model):
                return f"the {kind} {name} is not finite"
        if self.step_number >= self.settings.steps:
            lost = max(descent.guard.lost for descent in self.descents.values())
            if lost >= min(_LOST, max(2, self.settings.steps // 2)):
                return f"the loss of the last {lost} steps was not finite"
        numbers = self.held_out
        if not numbers or self._judged_at != self.step_number:
            crops = self.data.batch(0, World())[:8]
            numbers = self._judged([crops])
        for key, value in numbers.items():
            if math.isnan(value) or (math.isinf(value) and not key.endswith("psnr")):
                return f"its {key} is {value}"
        return None

    # -- checkpoints ------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint:
        if self.queued is not None:
            self.queued.guard.read()
        tensors = grouped(model=self.model.state_dict(), ema=self.ema.state_dict())
        for descent in self.descents.values():
            tensors |= descent.tensors()
        state = {
            "config": self.config.model_dump(mode="json"),
            "curve": self.config.curve(),
            **{key: descent.guard.state() for key, descent in self.descents.items()},
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "held_out": self.held_out,
        }
        return Checkpoint(self.step_number, tensors, state)

    def restore(self, checkpoint: Checkpoint, source: str = "the checkpoint") -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: it was made under other settings, or its tensors do not fit the model.
        """
        saved, mine = checkpoint.state.get("curve"), self.config.curve()
        if not isinstance(saved, dict):
            raise InputError(_unfit(source))
        # through JSON: tuples become lists, as in the file
        mine = json.loads(json.dumps(mine))
        longer = self.settings.steps > checkpoint.step  # then more steps, or fewer, are no mistake
        for key in sorted(saved.keys() | mine.keys()):
            if saved.get(key) != mine.get(key) and not (key == "train.steps" and longer):
                raise InputError(
                    f"{source} was trained with {key} = {saved.get(key)!r}, now it is "
                    f"{mine.get(key)!r}: set it back, choose another --out, or start over with "
                    "--no-resume"
                )
        groups = checkpoint.groups()
        try:
            self.model.load_state_dict(groups["model"])
            self.ema.load_state_dict(groups["ema"])
            for key, descent in self.descents.items():
                descent.restore(groups["adamw"])
                descent.guard.load(checkpoint.state[key])
            if self.queued is not None:
                self.queued.load()
                self._captured = Captured(self._update_queued)  # moments stand elsewhere now
            self.seconds = float(checkpoint.state["seconds"])
            self.processor_seconds = float(checkpoint.state.get("processor_seconds", 0.0))
            self.held_out = dict(checkpoint.state["held_out"])
        except (RuntimeError, KeyError, TypeError, ValueError):
            raise InputError(_unfit(source)) from None
        self.step_number = checkpoint.step


def _described(row: dict[str, Any], loss, nll, score, *numbers: float) -> dict[str, Any]:
    """The row of a step that was asked for, with what it gave."""
    found = {"loss": loss, "nll": nll, "score": score, "grad_norm": numbers[1], "lr": row["lr"]}
    return {"step": row["step"]} | found | {"skipped": in_words([*numbers]), "stop": row["stop"]}


def descent(module, settings: TrainConfig, prefix: str = "") -> Descent:
    """Of a module under the settings of a run."""
    return Descent(
        module,
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        clip=settings.clip,
        guard=Guard(settings.skip_factor, settings.skip_jump),
        max_skips=settings.max_skips,
        prefix=prefix,
        advice="lower train.lr or train.clip and start over with --no-resume",
    )


def _unfit(source: str) -> str:
    return (
        f"the tensors or the state of {source} do not fit this model, whose layers must have "
        "changed since: start over with --no-resume"
    )
