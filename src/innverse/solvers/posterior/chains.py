"""The chains of all items while they run: where they stand, what they have learnt, what was kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .adapt import ROUND, DualAveraging, Lengths, first_step
from .checkpoint import Checkpoint
from .hmc import Move, move
from .metric import Kinetic
from .randomness import Streams, length_factor
from .target import Point, Target

_LONGEST = 60  # leapfrog steps of a transition


def transition(
    target: Target,
    metric: Kinetic,
    point: Point,
    streams: Streams,
    k: int,
    step: Tensor,
    steps: int | Tensor,
) -> Move:
    """The k-th transition, of ``steps`` leapfrog steps, one number or (N,), of size ``step`` (N,)."""
    of_data = streams.normal(tuple(target.y.shape[1:]), k, "data")
    of_image = streams.normal(tuple(point.u.shape[1:]), k, "image")
    p = metric.momenta(of_data, of_image)
    return move(target, metric, point, p, streams.uniform(k, "accept"), step, steps)


class Chains:
    """Chains, ``each`` for every item, and their adaptation.

    Args:
        point: where they begin (N, ...).
        each: chains of one item.
        streams: random numbers.
        steps: leapfrog steps of a transition; None adapts them.
        kept: shape (n, C, H, W) of what one chain keeps.
    """

    def __init__(
        self,
        point: Point,
        each: int,
        streams: Streams,
        seed: int,
        steps: int | None,
        kept: tuple[int, ...],
    ):
        self.point, self.each, self.streams, self.seed, self.fixed = (
            point,
            each,
            streams,
            seed,
            steps,
        )
        self.items = len(point.u) // each
        one = torch.ones(self.items).to(point.log_p)
        self.k = self.kept = 0
        self.adapt(first_step(point.u) * one, ROUND * one)
        self.draws = point.u.new_empty((self.items, each, *kept))
        self.log_p = point.u.new_zeros((self.items, each, kept[0]))
        self.accepted = torch.zeros_like(point.log_p)
        self.diverged = torch.zeros_like(point.log_p)
        self.evaluations = torch.zeros(self.items, dtype=torch.long)
        self.sampled = 0  # transitions after warm-up
        self.trace: list[dict[str, Any]] = []

    def adapt(self, step: Tensor, time: Tensor) -> None:
        """Begin to learn anew, from these steps and trajectories (B,)."""
        self.steps, self.lengths = DualAveraging(step), Lengths(time)

    def transition(self, target: Target, metric: Kinetic, learn: bool) -> Move:
        """One for all chains."""
        step = self.steps.step if learn else self.steps.final
        time = self.lengths.time if learn else self.lengths.final
        n = self._steps(step, time)
        result = transition(
            target,
            metric,
            self.point,
            self.streams,
            self.k,
            self._for_chains(step),
            int(n[0]) if self.fixed is not None else self._for_chains(n),
        )
        self.point = result.point
        acceptance = self._by_item(result.acceptance).mean(1)
        if learn:
            self.steps.update(acceptance)
            weighted = (result.acceptance * result.distance, result.acceptance * result.growth)
            distance, growth = (self._by_item(w.nan_to_num(0.0)).sum(1) for w in weighted)
            self.lengths.update(n * step, distance, growth)
        else:
            self.accepted = self.accepted + result.acceptance
            self.diverged = self.diverged + result.diverged
            self.sampled += 1
        self.k += 1
        self.evaluations = self.evaluations + n.cpu()
        self.trace.append(
            {
                "acceptance": acceptance.tolist(),
                "step": step.tolist(),
                "steps": n.tolist(),
                "log_prob": self._by_item(self.point.log_p).mean(1).tolist(),
            }
        )
        return result

    @property
    def time(self) -> Tensor:
        """Of the trajectories of each item (B,)."""
        if self.fixed is None:
            return self.lengths.final
        return self.fixed * self.steps.final

    def keep(self, target: Target) -> None:
        """A draw of each chain."""
        self.draws[:, :, self.kept] = self._by_item(target.images(self.point.u))
        self.log_p[:, :, self.kept] = self._by_item(self.point.log_p)
        self.kept += 1

    def _steps(self, step: Tensor, time: Tensor) -> Tensor:
        """Leapfrog steps of the next transition (B,): those of the trajectory, at random more or
        less, for all items alike."""
        factor = length_factor(self.seed, self.k)
        mean = torch.full_like(step, self.fixed) if self.fixed is not None else time / step
        return (mean * factor).round().clamp(1, _LONGEST).nan_to_num(1.0).long()

    def _for_chains(self, values: Tensor) -> Tensor:
        return values.repeat_interleave(self.each)

    def _by_item(self, values: Tensor) -> Tensor:
        return values.unflatten(0, (self.items, self.each))

    def saved(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and a JSON-able state, from which `restore` goes on."""
        tensors = {
            "u": self.point.u,
            "log_p": self.point.log_p,
            "gradient": self.point.gradient,
            "draws": self.draws[:, :, : self.kept],
            "draws_log_p": self.log_p[:, :, : self.kept],
            "accepted": self.accepted,
            "diverged": self.diverged,
            "evaluations": self.evaluations,
        }
        numbers: dict[str, Any] = {"k": self.k, "kept": self.kept, "sampled": self.sampled}
        for name, learner in (("steps", self.steps), ("lengths", self.lengths)):
            for key, value in vars(learner).items():
                if isinstance(value, Tensor):
                    tensors[f"{name}.{key}"] = value
                else:
                    numbers[f"{name}.{key}"] = value
        return tensors, {"numbers": numbers, "trace": self.trace[:]}

    def restore(self, checkpoint: Checkpoint) -> None:
        tensors = {name: t.to(self.point.u.device) for name, t in checkpoint.tensors.items()}
        numbers = checkpoint.state["numbers"]
        self.point = Point(tensors["u"], tensors["log_p"], tensors["gradient"])
        self.k, self.sampled = numbers["k"], numbers["sampled"]
        self.kept = min(numbers["kept"], self.draws.shape[2])
        self.draws[:, :, : self.kept] = tensors["draws"][:, :, : self.kept]
        self.log_p[:, :, : self.kept] = tensors["draws_log_p"][:, :, : self.kept]
        self.accepted, self.diverged = tensors["accepted"], tensors["diverged"]
        self.evaluations = checkpoint.tensors["evaluations"]
        for name, learner in (("steps", self.steps), ("lengths", self.lengths)):
            for key in vars(learner):
                full = f"{name}.{key}"
                setattr(learner, key, tensors[full] if full in tensors else numbers[full])
        self.trace = checkpoint.state["trace"]
