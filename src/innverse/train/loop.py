"""The training loop: a trainer with its folder, signals, progress and checkpoints."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ..data import atomic_write, write_image
from ..data.atomic import write_json
from ..data.lock import only_writer
from ..device import choose_device
from ..errors import NotConvergedError, UsageError
from ..fitting.checkpoint import (
    latest_checkpoint,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from ..fitting.interrupt import stop_requests
from ..progress import Progress
from ..seeding import seeded
from .adversarial import AdversarialTrainer
from .automatic import settled
from .config import TableTrainingConfig, TrainingConfig
from .distributed import World, distributed
from .losses import measure, to_bits
from .metrics import MetricsFile
from .model import save_model
from .outcome import Outcome
from .sources import TrainingImages
from .tables import train_table
from .trainer import Trainer
from .verdict import can_be_judged, judge, text

_READ_EVERY = 16  # steps on a GPU; no more than fail in a row before a run ends


def train(
    config: TrainingConfig | TableTrainingConfig,
    out: str | Path,
    *,
    resume: bool = True,
    device: str = "auto",
    quiet: bool = False,
    command: str = "",
) -> Outcome:
    """Train a flow or a generator, on images or a table; ``out`` holds all that comes of it.

    ``checkpoint/`` (to continue), ``metrics.jsonl``, ``samples/``, ``config.json`` and, when
    complete, ``model/`` (for :func:`innverse.load`). Ctrl-C, SIGTERM and SIGHUP (a closed terminal)
    finish the step, save and return; the same call continues. Under torchrun all processes call
    this. The caller's random numbers, threads and rounding stay as they are.

    Args:
        config: the settings.
        out: folder of the run, created if need be.
        resume: continue from the newest checkpoint in ``out``; False deletes what is there.
        device: "auto", "cpu", "cuda", ...
        quiet: no progress on stderr.
        command: how the run was started, for the model's card and the message after an interruption.

    Raises:
        InputError: unusable data, a damaged or foreign checkpoint, a folder that cannot be written.
        UsageError: settings that do not fit together.
        NotConvergedError: training diverged; neither a model nor a checkpoint of it is kept.
        InnverseError: another training writes into ``out``.

    Example:
        >>> settings = {"data.path": "digits", "model.levels": 1, "model.steps": 1, "model.hidden": 8}
        >>> config = load_config(overrides=settings | {"train.steps": 2, "train.eval_images": 8})
        >>> outcome = train(config, "run", quiet=True)
        >>> outcome.complete, innverse.load(outcome.model).shape
        (True, (1, 8, 8))
    """
    out, settings = Path(out), config.train
    target = choose_device(device)
    if isinstance(config, TableTrainingConfig):
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError("a table is learned by one process: start without torchrun")
        with only_writer(out):
            return train_table(config, out, resume, target, quiet, command)
    own = seeded(settings.seed, threads=settings.threads, flush_denormals=True)
    with own, distributed(target) as world:
        if target.type == "cuda" and world.size > 1:
            target = torch.device("cuda", torch.cuda.current_device())
        # locked before the data are read, which can take minutes
        with only_writer(out) if world.first else contextlib.nullcontext():
            run = _Run(config, out, world, target, quiet or not world.first, command, resume)
            return run(resume)


class _Run:
    """A trainer with its folder: the part of training that touches files, signals and the screen."""

    def __init__(
        self, config, out: Path, world: World, device, quiet: bool, command: str, resume: bool
    ):
        with Progress("reading the images", quiet=quiet):
            data = TrainingImages(config, world)
        with Progress("choosing sizes", quiet=quiet):
            chosen = settled(config, data, out, resume, device) if world.first else None
        data = data.fitted_to(world.broadcast_value(chosen))
        self.config, self.out, self.world = data.config, out, world
        self.quiet, self.command = quiet, command
        self.checkpoints = out / "checkpoint"
        kind = AdversarialTrainer if data.config.model.adversarial else Trainer
        self.trainer = kind(data.config, data, world, device)

    def __call__(self, resume: bool) -> Outcome:
        trainer, settings = self.trainer, self.config.train
        self._open(resume)
        metrics = contextlib.nullcontext()
        if self.world.first:
            file = MetricsFile(self.out / "metrics.jsonl", trainer.step_number)
            metrics = contextlib.closing(file)
        progress = Progress(
            "training", settings.steps, start=trainer.step_number, unit="step", quiet=self.quiet
        )
        self._greet(progress)
        with metrics as metrics, stop_requests() as stop, progress:
            unread: list[dict[str, Any]] = []
            started, busy = time.perf_counter(), time.process_time()
            while trainer.step_number < settings.steps:
                with self._explained():
                    unread.append(row := trainer.step(bool(stop)))
                    if not (row["stop"] or self._reads(row["step"])):
                        continue
                    rows, unread = trainer.read(unread), []
                elapsed = time.perf_counter() - started
                trainer.seconds += elapsed
                trainer.processor_seconds += time.process_time() - busy
                if self.world.first:
                    for row in rows:
                        self._report(row, elapsed / len(rows), metrics, progress)
                if row["stop"]:
                    break
                started, busy = time.perf_counter(), time.process_time()
            complete = trainer.step_number >= settings.steps
            if self.world.first:
                self._save()
                if not complete:
                    note = f"stopped after step {trainer.step_number}, saved; continue with:"
                    progress.say(f"{note}\n  {self.command or 'the same command'}")
                else:
                    self._finish(progress)
        return Outcome(
            complete=complete,
            step=trainer.step_number,
            skipped=trainer.skipped,
            out=self.out,
            model=self.out / "model" if complete else None,
            held_out=trainer.held_out,
        )

    def _reads(self, step: int) -> bool:
        """Whether the numbers of the steps up to this one are read now: on a GPU that is to wait."""
        s = self.config.train
        often = (_READ_EVERY, s.eval_every, s.sample_every, s.checkpoint_every)
        return self.trainer.queued is None or step == s.steps or any(step % n == 0 for n in often)

    @contextlib.contextmanager
    def _explained(self):
        """A divergence also says what is left."""
        try:
            yield
        except NotConvergedError as error:
            raise NotConvergedError(f"{error} ({self._kept()})") from None

    def _open(self, resume: bool) -> None:
        """Continue from the newest checkpoint, or start."""
        if self.world.first:
            if not resume:
                remove_checkpoints(self.checkpoints)
            write_json(self.out / "config.json", self.config.model_dump())
        newest = latest_checkpoint(self.checkpoints) if self.world.first else None
        checkpoint = self.world.broadcast_value(load_checkpoint(newest) if newest else None)
        if checkpoint is None:
            self.trainer.initialize()
        else:
            self.trainer.restore(checkpoint, f"the checkpoint in {self.checkpoints}")

    def _greet(self, progress: Progress) -> None:
        trainer, data = self.trainer, self.trainer.data
        size = sum(p.numel() for p in trainer.model.parameters())
        progress.say(
            f"{self.config.model.name}: {size:,} parameters on {trainer.device}, "
            f"{data.n_train} training and {data.n_held_out} held-out images, "
            f"{self.world.size} process{'es' if self.world.size > 1 else ''} -> {self.out}"
        )
        for note in data.notes:
            progress.say(note)
        if self.config.data.range is not None:
            low, high = self.config.data.range
            progress.say(f"values from {low:g} to {high:g} {self.config.data.units or ''}".rstrip())
        if trainer.step_number:
            progress.say(f"continuing after step {trainer.step_number}")

    def _report(self, row: dict[str, Any], elapsed: float, metrics, progress: Progress) -> None:
        """Log a step; evaluate, sample and save where it is time."""
        trainer, s = self.trainer, self.config.train
        row = {key: value for key, value in row.items() if key != "stop"}
        step = row.pop("step")
        last, rate = step == s.steps, s.batch_size / elapsed
        name = measure(trainer.model, self.config.model.noise)
        row[name] = to_bits(row["nll"]) if name.startswith("bits_per_dim") else row["nll"]
        reason = row.pop("skipped")
        if reason is not None:
            metrics.add(
                kind="skip", step=step, reason=reason, skipped=trainer.skipped,
                loss=row["loss"], grad_norm=row["grad_norm"],
            )  # fmt: skip
            progress.say(f"step {step} skipped: {reason} ({trainer.skipped} so far)")
        elif step % s.log_every == 0 or last:
            metrics.add(
                kind="train", step=step, **row, skipped=trainer.skipped,
                images_per_s=round(rate, 1), seconds=round(trainer.seconds, 2),
                processor_seconds=round(trainer.processor_seconds, 2),
            )  # fmt: skip
        note = f"{name} {row[name]:.4f}  {self._rate(rate):.0f} images/s"
        if trainer.skipped:
            note += f"  {trainer.skipped} skipped"
        if step % s.eval_every == 0 or last:
            started = time.perf_counter()
            held_out = trainer.evaluate()
            if held_out:
                metrics.add(kind="eval", step=step, **held_out, seconds=round(trainer.seconds, 2))
                numbers = ", ".join(f"{k} {v:.4f}" for k, v in held_out.items())
                took = time.perf_counter() - started
                progress.say(f"step {step} held-out: {numbers} ({took:.1f} s)")
        if step % s.sample_every == 0 or last:
            self._picture(step)
        if step % s.checkpoint_every == 0:
            self._save()
        progress(step, note=note)

    def _rate(self, rate: float) -> float:
        """Images/s, smoothed."""
        self._smooth = 0.95 * getattr(self, "_smooth", rate) + 0.05 * rate
        return self._smooth

    def _picture(self, step: int) -> None:
        write_image(self.out / "samples" / f"{step:09d}.png", self._samples())

    def _samples(self):
        from ..report.panel import grid

        images = self.trainer.sample()
        return grid(images, scale=max(1, 64 // images.shape[-1]))

    def _save(self) -> None:
        """A checkpoint, unless it would take the place of a better one.

        Raises:
            NotConvergedError: there is nothing finite to save.
        """
        if trouble := self.trainer.trouble():
            raise NotConvergedError(
                f"training diverged by step {self.trainer.step_number}: {trouble}, so nothing was "
                f"saved ({self._kept()}); lower train.lr or train.clip and start over with "
                "--no-resume"
            )
        save_checkpoint(self.checkpoints, self.trainer.checkpoint(), self.config.train.keep)

    def _kept(self) -> str:
        """What a diverged run leaves that is good."""
        newest = latest_checkpoint(self.checkpoints)
        if newest is None:
            return "there is no checkpoint from before"
        return f"the last good checkpoint is {newest}, of step {int(newest.stem)}"

    def _finish(self, progress: Progress) -> None:
        t = self.trainer
        facts = {
            "n_train": t.data.n_train,
            "n_held_out": t.data.n_held_out,
            "steps": t.step_number,
            "seconds": t.seconds,
            "processor_seconds": t.processor_seconds,
            "device": torch.cuda.get_device_name() if t.device.type == "cuda" else "CPU",
            "skipped": t.skipped,
            "held_out": t.held_out,
            "command": self.command,
        }
        model, folder = t._averaged(), self.out / "model"
        save_model(model, folder, self.config, facts)
        more = "--steps" if self.config.train.minutes is None else "--minutes"
        progress.say(f"trained {t.step_number} steps; with more {more} it goes on from here")
        if self.config.train.report and can_be_judged(model, t.data):
            self._judge(model, folder, facts)

    def _judge(self, model, folder: Path, facts: dict[str, Any]) -> None:
        """Say whether the prior is good enough, in words and in the folder of the model."""
        with Progress("judging the prior", quiet=self.quiet) as progress:
            found = judge(model, self.config, self.trainer.data, progress)
        words = text(found)
        save_model(model, folder, self.config, facts, words)
        write_image(folder / "samples.png", self._samples())
        atomic_write(folder / "report.txt", words + "\n")
        write_json(folder / "report.json", found | facts)
        if not self.quiet:
            print(words, file=sys.stderr)
