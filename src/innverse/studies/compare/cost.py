"""What a model costs: the memory and time of a training step, the time of a sample and of a code."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ... import flows
from ...bijections import initialize, set_memory
from ...flows import Flow
from ...metrics.memory import peak_tensor_bytes
from .contestants import BATCH, Contestant

DEPTHS = (1, 2, 4)  # multiples of the depth of the flow
_DEPTH_PIXELS = 2**13  # of the batch whose gradient is measured: two images of 64x64
MODES = ("store", "reversible")


def training_step(
    contestant: Contestant, x: Tensor, memory: str | None = None
) -> Callable[[], nn.Module]:
    """A function that computes all gradients of one training step on x (B, C, H, W) in [0, 1].

    It works on a copy of the model, which it returns; ``memory`` is the mode of an INN, by
    default its own. One step of a GAN is one of its critic and one of its generator.
    """
    model = copy.deepcopy(contestant.model).requires_grad_(True).train()
    if contestant.label == "INN" and memory is not None:
        set_memory(model, memory)
    x = x.to(contestant.device)

    def likelihood() -> Tensor:
        return -model.log_prob(x, contestant.sigma).mean()

    def adversarial() -> Tensor:
        fake = model.decode(torch.randn(len(x), *model.latent_shape, device=x.device))
        model.critic_loss(x, fake.detach()).backward()
        return model.generator_loss(fake)

    losses = {"INN": likelihood, "GAN": adversarial}
    loss = losses.get(contestant.label, lambda: model.training_loss(x))

    def step() -> nn.Module:
        model.zero_grad(set_to_none=True)
        loss().backward()
        return model

    return step


def step_bytes(contestant: Contestant, x: Tensor, memory: str = "store") -> int:
    """Peak bytes of a training step on x, beyond the parameters; gradients included."""
    return peak_tensor_bytes(training_step(contestant, x, memory))


def bytes_by_depth(flow: Flow, x: Tensor, sigma: float | None) -> dict[str, dict[int, int]] | None:
    """{mode: {steps: peak bytes}} of a gradient for flows like this one, of growing depth.

    Beyond parameters and their gradients, which grow with depth in any mode; ``steps`` is what the
    flow has times `DEPTHS`. x (B, C, H, W) is repeated or cut to some thousand pixels. None for a
    flow whose option ``steps`` is no number.
    """
    if flow.name is None or not isinstance(flow.config.get("steps"), int):
        return None
    n = max(2, _DEPTH_PIXELS // (x.shape[-1] * x.shape[-2]))
    x = x.repeat(n // len(x) + 1, 1, 1, 1)[:n]
    found: dict[str, dict[int, int]] = {mode: {} for mode in MODES}
    for factor in DEPTHS:
        depth = factor * flow.config["steps"]
        options = {**flow.config, "steps": depth}
        deep = flows.build(flow.name, flow.shape, **options).to(x.device)
        initialize(deep, x, None if sigma is None else x.new_tensor(sigma))
        contestant = Contestant("INN", "", deep, sigma)
        gradients = sum(p.nbytes for p in deep.parameters())
        for mode in MODES:
            found[mode][depth] = step_bytes(contestant, x, mode) - gradients
    return found


def processor_seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """Median processor time of a call, all threads together, after one to warm up.

    Unlike the time on the clock it says the same on a busy machine.
    """
    times = []
    for _ in range(repeats + 1):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return statistics.median(times[1:])


def times(contestant: Contestant, x: Tensor) -> dict[str, float | None]:
    """Milliseconds of processor time an image, in batches of `BATCH`: of a training step, a sample,
    a code."""
    x = x[:BATCH]
    found = {
        "step": training_step(contestant, x),
        "sample": lambda: contestant.draw(len(x), 1.0),
        "encode": (lambda: contestant.encode(x)) if contestant.encodes else None,
    }
    return {
        k: None if f is None else 1000 * processor_seconds(f) / len(x) for k, f in found.items()
    }
