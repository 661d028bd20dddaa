"""The training loop: one :class:`Trainer`, one ``step()``, everything a function of the step number.

    batch(step) -> loss -> gradient -> clip -> (refuse?) -> AdamW -> EMA

Weights are averaged over steps (EMA), and it is the average that is evaluated, sampled and saved.
"""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innverse.bijections import initialize, set_memory
from innverse.data.atomic import atomic_write
from innverse.device import choose_device
from innverse.errors import InnverseError, InputError, UsageError
from innverse.nets import set_precision
from innverse.train.allocator import keep_buffers
from innverse.train.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from innverse.train.config import TrainingConfig
from innverse.train.distributed import World, distributed
from innverse.train.evaluate import evaluate, sample_images
from innverse.train.guard import Guard
from innverse.train.interrupt import stop_requests
from innverse.train.losses import Objective, log_uniform, measure, to_bits
from innverse.train.metrics import MetricsFile
from innverse.train.model import build_flow, save_model
from innverse.train.progress import Progress
from innverse.train.randomness import generator, stream_seed
from innverse.train.sources import Data

__all__ = ["Outcome", "Trainer", "train"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``complete`` or interrupted after ``step`` steps."""

    complete: bool
    step: int
    skipped: int
    out: Path
    model: Path | None
    held_out: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return {
            "complete": self.complete,
            "step": self.step,
            "skipped": self.skipped,
            "out": str(self.out),
            "model": str(self.model) if self.model else None,
            "held_out": self.held_out,
        }


class Trainer:
    """State of a run: flow, its average, optimiser, guard, step number.

    Args:
        config: the settings.
        data: training and held-out crops.
        world: the processes that train together.
        device: where to compute.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: Data,
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
        self.seconds = 0.0
        self.held_out: dict[str, float] = {}
        self.guard = Guard(self.settings.skip_factor, self.settings.skip_jump)
        torch.manual_seed(stream_seed(self.settings.seed, 0, "weights"))
        self.flow = build_flow(config).to(self.device)
        # the average is judged as it will be used: in fp32, whatever the precision of training
        self.ema = copy.deepcopy(self.flow).requires_grad_(False)
        set_memory(self.flow, self.settings.memory)
        set_precision(self.flow, self.settings.precision)
        self._names = [name for name, p in self.flow.named_parameters() if p.requires_grad]
        self._parameters = [p for p in self.flow.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=self.settings.lr,
            betas=self.settings.betas,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )
        self._objective = None

    # -- one step ---------------------------------------------------------------------------

    def initialize(self) -> None:
        """Set the ActNorms from the whole first batch; everybody takes rank 0's result."""
        if self.config.model.init is None:
            images, noise, sigma = self._batch(0, World())
            c = None if sigma is None else sigma[:, None]
            initialize(self.flow, Objective.inputs(images, noise, sigma), c)
        self.world.broadcast(self.flow)
        self.ema.load_state_dict(self.flow.state_dict())

    def step(self, interrupted: bool = False) -> dict[str, Any]:
        """Take one step and describe it: loss, nll, score, grad_norm, lr, skipped (a reason or None).

        ``interrupted`` is shared, so that all processes stop after the same step.
        """
        if self._objective is None:
            self._objective = self.world.wrap(Objective(self.flow))
            self.flow.train()
        n, settings = self.step_number, self.settings
        lr = self.learning_rate(n)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        images, noise, sigma = self._batch(n, self.world)
        # anything random inside the model (dropout, say) is a function of the step as well
        torch.manual_seed(stream_seed(settings.seed, n, f"model{self.world.rank}"))
        self.optimizer.zero_grad(set_to_none=True)
        loss, nll, score = self._objective(images, noise, sigma, self.score_weight(n))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, settings.clip)
        values = torch.stack(
            [loss.detach(), nll, score, torch.tensor(float(interrupted), device=self.device)]
        )
        loss, nll, score, stop = self.world.mean(values.double()).tolist()
        norm = norm.item()
        # the reported likelihood is steadier than the loss, which moves with sigma
        reason = self.guard.judge(nll if math.isfinite(loss) else loss, norm)
        if reason is None:
            self.optimizer.step()
            self._average(n)
        elif self.guard.in_a_row >= settings.max_skips:
            raise InnverseError(
                f"training diverged: the last {self.guard.in_a_row} steps up to step {n + 1} were "
                f"refused ({reason}); lower train.lr or train.clip and start over with --no-resume"
            )
        self.step_number = n + 1
        return {
            "loss": loss,
            "nll": nll,
            "score": score,
            "grad_norm": norm,
            "lr": lr,
            "skipped": reason,
            "stop": stop > 0,
        }

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

    def _batch(self, step: int, world: World) -> tuple[Tensor, Tensor, Tensor | None]:
        """This process's crops (uint8), noise and sigma of one step."""
        images = self.data.batch(step, world)
        shape = (self.settings.batch_size, *images.shape[1:])
        g = generator(self.settings.seed, step, "noise")
        sigma = None
        if self.config.model.noise is None:
            noise = torch.rand(shape, generator=g)
        else:
            noise = torch.randn(shape, generator=g)
            sigma = log_uniform(
                torch.rand(shape[0], generator=g, dtype=torch.float64), *self.config.model.noise
            )
            sigma = world.share(sigma.float()).to(self.device)
        noise = world.share(noise).to(self.device, non_blocking=True)
        return images.to(self.device, non_blocking=True), noise, sigma

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """EMA; the decay grows from 0.1, so that early weights are forgotten."""
        decay = min(self.settings.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.flow.parameters()), 1 - decay)
        for mean, now in zip(self.ema.buffers(), self.flow.buffers(), strict=True):
            mean.copy_(now)

    # -- evaluation -------------------------------------------------------------------------

    def evaluate(self) -> dict[str, float]:
        """Held-out numbers of the averaged weights; empty without held-out images."""
        batches = self.data.held_out(self.settings.eval_images)
        if batches:
            self.held_out = evaluate(
                self._averaged(), batches, self.config.model.noise, self.settings.seed
            )
        return self.held_out

    def sample(self, n: int = 16) -> Tensor:
        """(n, C, H, W) samples of the averaged weights in [0, 1]."""
        return sample_images(self._averaged(), self.config.model.noise, self.settings.seed, n)

    def _averaged(self):
        return self.ema.eval()

    # -- checkpoints ------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint:
        tensors = {f"model/{k}": v for k, v in self.flow.state_dict().items()}
        tensors |= {f"ema/{k}": v for k, v in self.ema.state_dict().items()}
        for name, p in zip(self._names, self._parameters, strict=True):
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f"adamw/{key}/{name}"] = value
        state = {
            "config": self.config.model_dump(mode="json"),
            "curve": self.config.curve(),
            "guard": self.guard.state(),
            "seconds": self.seconds,
            "held_out": self.held_out,
        }
        return Checkpoint(self.step_number, tensors, state)

    def restore(self, checkpoint: Checkpoint, source: str = "the checkpoint") -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: it was made under other settings, or its tensors do not fit the flow.
        """
        saved, mine = checkpoint.state["curve"], self.config.curve()
        # through JSON: tuples become lists, as in the file
        mine = json.loads(json.dumps(mine))
        for key in sorted(saved.keys() | mine.keys()):
            if saved.get(key) != mine.get(key):
                raise InputError(
                    f"{source} was trained with {key} = {saved.get(key)!r}, now it is "
                    f"{mine.get(key)!r}: set it back, choose another --out, or start over with "
                    "--no-resume"
                )
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "adamw": {}}
        for name, tensor in checkpoint.tensors.items():
            kind, _, rest = name.partition("/")
            groups[kind][rest] = tensor
        try:
            self.flow.load_state_dict(groups["model"])
            self.ema.load_state_dict(groups["ema"])
        except RuntimeError:
            raise InputError(
                f"the tensors of {source} do not fit this flow, whose layers must have changed "
                "since: start over with --no-resume"
            ) from None
        parameters = dict(zip(self._names, self._parameters, strict=True))
        for name, value in groups["adamw"].items():
            key, _, name = name.partition("/")
            p = parameters[name]
            if value.shape == p.shape:
                # the fused kernel walks raw memory: moments must be laid out as their parameter
                value = torch.empty_like(p).copy_(value)
            self.optimizer.state[p][key] = value.to(p.device)
        self.guard.load(checkpoint.state["guard"])
        self.seconds = checkpoint.state["seconds"]
        self.held_out = checkpoint.state["held_out"]
        self.step_number = checkpoint.step


def train(
    config: TrainingConfig,
    out: str | Path,
    *,
    resume: bool = True,
    device: str = "auto",
    quiet: bool = False,
    command: str = "the same command",
) -> Outcome:
    """Train a flow; the folder ``out`` holds all that comes of it.

    ``checkpoint/`` (to continue), ``metrics.jsonl``, ``samples/``, ``config.json`` and, when
    complete, ``model/`` (for :meth:`innverse.flows.Flow.from_pretrained`). Ctrl-C and SIGTERM finish
    the step, save and return; the same call continues. Under torchrun all processes call this.

    Args:
        config: the settings.
        out: folder of the run, created if need be.
        resume: continue from the newest checkpoint in ``out``; False deletes what is there.
        device: "auto", "cpu", "cuda", ...
        quiet: no progress on stderr.
        command: how the run was started, for the message after an interruption.

    Raises:
        InputError: unusable data, a damaged or foreign checkpoint, a folder that cannot be written.
        UsageError: settings that do not fit together.
        InnverseError: training diverged.
    """
    keep_buffers()
    torch.set_flush_denormal(True)
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    out = Path(out)
    target = choose_device(device)
    with distributed(target) as world:
        if target.type == "cuda" and world.size > 1:
            target = torch.device("cuda", torch.cuda.current_device())
        run = _Run(config, out, world, target, quiet or not world.first, command)
        return run(resume)


class _Run:
    """A trainer with its folder: the part of training that touches files, signals and the screen."""

    def __init__(self, config, out: Path, world: World, device, quiet: bool, command: str):
        self.config, self.out, self.world = config, out, world
        self.quiet, self.command = quiet, command
        self.checkpoints = out / "checkpoint"
        self.trainer = Trainer(config, Data(config, world), world, device)

    def __call__(self, resume: bool) -> Outcome:
        trainer, settings = self.trainer, self.config.train
        self._open(resume)
        metrics = None
        if self.world.first:
            metrics = MetricsFile(self.out / "metrics.jsonl", trainer.step_number)
        progress = Progress(settings.steps, trainer.step_number, quiet=self.quiet)
        self._greet(progress)
        with stop_requests() as stop, progress:
            while trainer.step_number < settings.steps:
                begun = time.perf_counter()
                row = trainer.step(bool(stop))
                elapsed = time.perf_counter() - begun
                trainer.seconds += elapsed
                if self.world.first:
                    self._report(row, elapsed, metrics, progress)
                if row["stop"]:
                    break
        complete = trainer.step_number >= settings.steps
        if self.world.first:
            self._save()
            metrics.close()
            if not complete:
                note = f"stopped after step {trainer.step_number}, saved; continue with:"
                progress.say(f"{note}\n  {self.command}")
            else:
                self._finish()
        return Outcome(
            complete=complete,
            step=trainer.step_number,
            skipped=trainer.guard.skipped,
            out=self.out,
            model=self.out / "model" if complete else None,
            held_out=trainer.held_out,
        )

    def _open(self, resume: bool) -> None:
        """Create the folder; continue from the newest checkpoint, or begin."""
        if self.world.first:
            try:
                self.out.mkdir(parents=True, exist_ok=True)
                if not resume:
                    for old in [*self.checkpoints.glob("*"), self.out / "metrics.jsonl"]:
                        old.unlink(missing_ok=True)
                (self.out / "config.json").write_text(self.config.model_dump_json(indent=1) + "\n")
            except OSError as e:
                raise InputError(
                    f"cannot write to {self.out}: {e.strerror or e}; choose another --out"
                ) from None
        newest = latest_checkpoint(self.checkpoints) if self.world.first else None
        checkpoint = self.world.tell(load_checkpoint(newest) if newest else None)
        if checkpoint is None:
            self.trainer.initialize()
        else:
            self.trainer.restore(checkpoint, f"the checkpoint in {self.checkpoints}")

    def _greet(self, progress: Progress) -> None:
        trainer, data = self.trainer, self.trainer.data
        size = sum(p.numel() for p in trainer.flow.parameters())
        progress.say(
            f"{self.config.model.name}: {size:,} parameters on {trainer.device}, "
            f"{data.n_train} training and {data.n_held_out} held-out images, "
            f"{self.world.size} process{'es' if self.world.size > 1 else ''} -> {self.out}"
        )
        if trainer.step_number:
            progress.say(f"continuing after step {trainer.step_number}")

    def _report(self, row: dict[str, Any], elapsed: float, metrics, progress: Progress) -> None:
        """Log a step; evaluate, sample and save where it is time."""
        trainer, s = self.trainer, self.config.train
        step, last = trainer.step_number, trainer.step_number == s.steps
        rate = s.batch_size / elapsed
        row = {key: value for key, value in row.items() if key not in ("stop",)}
        name = measure(trainer.flow, self.config.model.noise)
        row[name] = to_bits(row["nll"]) if name == "bits_per_dim" else row["nll"]
        reason = row.pop("skipped")
        if reason is not None:
            metrics.add(
                kind="skip", step=step, reason=reason, skipped=trainer.guard.skipped,
                loss=_finite(row["loss"]), grad_norm=_finite(row["grad_norm"]),
            )  # fmt: skip
            progress.say(f"step {step} skipped: {reason} ({trainer.guard.skipped} so far)")
        elif step % s.log_every == 0 or last:
            metrics.add(
                kind="train", step=step, **row, skipped=trainer.guard.skipped,
                images_per_s=round(rate, 1), seconds=round(trainer.seconds, 2),
            )  # fmt: skip
        note = f"{name} {row[name]:.4f}  {self._rate(rate):.0f} images/s"
        if trainer.guard.skipped:
            note += f"  {trainer.guard.skipped} skipped"
        if step % s.eval_every == 0 or last:
            begun = time.perf_counter()
            held_out = trainer.evaluate()
            if held_out:
                numbers = {key: _finite(value) for key, value in held_out.items()}
                metrics.add(kind="eval", step=step, **numbers, seconds=round(trainer.seconds, 2))
                numbers = ", ".join(f"{k} {v:.4f}" for k, v in held_out.items())
                took = time.perf_counter() - begun
                progress.say(f"step {step} held-out: {numbers} ({took:.1f} s)")
        if step % s.sample_every == 0 or last:
            self._picture(step)
        if step % s.checkpoint_every == 0:
            self._save()
        progress.update(step, note)

    def _rate(self, rate: float) -> float:
        """Images/s, smoothed."""
        self._smooth = 0.95 * getattr(self, "_smooth", rate) + 0.05 * rate
        return self._smooth

    def _picture(self, step: int) -> None:
        from innverse.report.panel import grid

        images = self.trainer.sample()
        picture = grid(images, scale=max(1, 64 // images.shape[-1]))
        path = self.out / "samples" / f"{step:09d}.png"
        atomic_write(path, lambda file: picture.save(file, format="PNG"))

    def _save(self) -> None:
        save_checkpoint(self.checkpoints, self.trainer.checkpoint(), self.config.train.keep)

    def _finish(self) -> None:
        t = self.trainer
        facts = {
            "parameters": sum(p.numel() for p in t.flow.parameters()),
            "n_train": t.data.n_train,
            "n_held_out": t.data.n_held_out,
            "steps": t.step_number,
            "seconds": t.seconds,
            "device": torch.cuda.get_device_name() if t.device.type == "cuda" else "CPU",
            "skipped": t.guard.skipped,
            "held_out": t.held_out,
        }
        save_model(t._averaged(), self.out / "model", self.config, facts)


def _finite(value: float) -> float | str:
    """JSON has no NaN."""
    return value if math.isfinite(value) else str(value)
