"""The same coupling flow for vectors in every library that has one.

L couplings of halves; each network is a perceptron with two hidden layers of one width and ReLU.
Between the couplings each library changes the roles of the coordinates in its own cheapest way
(a swap, a reversal, a fixed permutation). What cannot be switched off is left on: torchflows'
ActNorms, normflows' residual block (one more hidden layer) in its spline.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

BATCH, BINS, BOUND, LR = 512, 8, 5.0, 1e-4


@dataclass
class Trial:
    """A flow ready to run: every call is complete (results are there when it returns)."""

    step: Callable[[], float]
    log_prob: Callable[[], object]
    sample: Callable[[], object]
    parameters: int


# ---- PyTorch ------------------------------------------------------------------------------------


def torch_trial(name: str, kind: str, d: int, layers: int, width: int, bf16: bool) -> Trial:
    import torch

    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    model, log_prob, sample = TORCH[name](kind, d, layers, width)
    if bf16 and name == "innverse":
        from innverse import nets

        nets.set_precision(model, "bf16")
    autocast = bf16 and name != "innverse"
    x = torch.randn(BATCH, d, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        log_prob(x)  # ActNorms that set themselves up do it now
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)

    def mixed():
        return torch.autocast("cpu", torch.bfloat16, enabled=autocast)

    def step() -> float:
        with mixed():
            loss = -log_prob(x).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    def density():
        with torch.inference_mode(), mixed():
            return log_prob(x)

    def draw():
        with torch.inference_mode(), mixed():
            return sample(BATCH)

    return Trial(step, density, draw, sum(p.numel() for p in model.parameters()))


def _innverse(kind: str, d: int, layers: int, width: int):
    from innverse import flows

    options = {"layers": layers, "width": width, "mix": "swap", "norm": False, "activation": "relu"}
    name = "realnvp" if kind == "affine" else "nsf"
    flow = flows.build(name, (d,), **options)
    return flow, flow.log_prob, flow.sample


def _freia(kind: str, d: int, layers: int, width: int):
    import FrEIA.framework as ff
    import FrEIA.modules as fm
    import torch
    from torch import nn

    if kind != "affine":
        raise ValueError("FrEIA's spline block has another architecture")

    def net(n_in: int, n_out: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(n_in, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, n_out),
        )  # fmt: skip

    inn = ff.SequenceINN(d)
    for k in range(layers // 2):  # a GLOWCouplingBlock is two couplings
        inn.append(fm.GLOWCouplingBlock, subnet_constructor=net, clamp=2.0)
        inn.append(fm.PermuteRandom, seed=k)

    def log_prob(x):
        z, logdet = inn(x)
        return logdet - 0.5 * z.square().sum(1) - 0.5 * d * math.log(2 * math.pi)

    return inn, log_prob, lambda n: inn(torch.randn(n, d), rev=True)[0]


def _nflows(kind: str, d: int, layers: int, width: int):
    import torch
    from nflows import distributions, flows, transforms
    from nflows.nn.nets import MLP

    class Net(MLP):
        def forward(self, x, context=None):
            return super().forward(x)

    def net(n_in: int, n_out: int):
        return Net([n_in], [n_out], [width, width])

    half = (torch.arange(d) >= d // 2).int()
    steps = []
    for _ in range(layers):
        if kind == "affine":
            steps.append(transforms.AffineCouplingTransform(half, net))
        else:
            coupling = transforms.PiecewiseRationalQuadraticCouplingTransform
            steps.append(coupling(half, net, num_bins=BINS, tails="linear", tail_bound=BOUND))
        steps.append(transforms.ReversePermutation(d))
    base = distributions.StandardNormal([d])
    flow = flows.Flow(transforms.CompositeTransform(steps), base)
    return flow, flow.log_prob, flow.sample


def _normflows(kind: str, d: int, layers: int, width: int):
    import normflows as nf

    steps = []
    for k in range(layers):
        if kind == "affine":
            net = nf.nets.MLP([d // 2, width, width, 2 * (d // 2)])
            steps += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(d, mode="swap")]
        else:
            coupling = nf.flows.CoupledRationalQuadraticSpline
            options = {"num_bins": BINS, "tail_bound": BOUND, "reverse_mask": k % 2 == 1}
            steps.append(coupling(d, 1, width, **options))
    base = nf.distributions.base.DiagGaussian(d, trainable=False)
    flow = nf.NormalizingFlow(base, steps)
    return flow, flow.log_prob, lambda n: flow.sample(n)[0]


def _zuko(kind: str, d: int, layers: int, width: int):
    import zuko

    options = {"transforms": layers, "hidden_features": (width, width)}
    if kind == "spline":
        options |= {
            "univariate": zuko.transforms.MonotonicRQSTransform,
            "shapes": [(BINS,), (BINS,), (BINS - 1,)],
        }
    flow = zuko.flows.NICE(d, **options)
    return flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,))


def _torchflows(kind: str, d: int, layers: int, width: int):
    from torch import nn
    from torchflows.bijections.finite.autoregressive.architectures import CouplingRQNSF, RealNVP
    from torchflows.flows import Flow

    net = {"n_layers": 3, "n_hidden": width, "nonlinearity": nn.ReLU}
    architecture = RealNVP if kind == "affine" else CouplingRQNSF
    flow = Flow(architecture((d,), n_layers=layers, conditioner_kwargs=net))
    return flow, flow.log_prob, lambda n: flow.sample((n,))


TORCH = {
    "innverse": _innverse,
    "FrEIA": _freia,
    "nflows": _nflows,
    "normflows": _normflows,
    "zuko": _zuko,
    "torchflows": _torchflows,
}


# ---- JAX ----------------------------------------------------------------------------------------


def flowjax_trial(kind: str, d: int, layers: int, width: int, threads: int) -> Trial:
    os.environ["XLA_FLAGS"] = (
        f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={threads}"
    )
    import equinox as eqx
    import jax
    import optax
    import paramax
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import StandardNormal
    from flowjax.flows import coupling_flow

    key = jax.random.key(0)
    flow = coupling_flow(
        key,
        base_dist=StandardNormal((d,)),
        transformer=RationalQuadraticSpline(knots=BINS, interval=BOUND)
        if kind == "spline"
        else None,
        flow_layers=layers,
        nn_width=width,
        nn_depth=2,
    )
    parameters, static = eqx.partition(flow, eqx.is_inexact_array)
    x = jax.random.normal(key, (BATCH, d))
    adam = optax.adam(LR)

    def whole(p):
        return paramax.unwrap(eqx.combine(p, static))

    @jax.jit
    def update(p, state, x):
        loss, g = jax.value_and_grad(lambda p: -whole(p).log_prob(x).mean())(p)
        change, state = adam.update(g, state, p)
        return optax.apply_updates(p, change), state, loss

    density = jax.jit(lambda p, x: whole(p).log_prob(x))
    draw = jax.jit(lambda p, k: whole(p).sample(k, (BATCH,)))
    held = [parameters, adam.init(parameters)]

    def step() -> float:
        held[0], held[1], loss = update(held[0], held[1], x)
        return float(loss)

    return Trial(
        step,
        lambda: density(parameters, x).block_until_ready(),
        lambda: draw(parameters, key).block_until_ready(),
        sum(p.size for p in jax.tree.leaves(parameters)),
    )
