r"""
The memory of back-propagation, measured
========================================

A network that can be inverted need not keep its activations: going backwards, each layer's input is
computed again from its output. Here are the bytes, counted by the allocator, as the chain grows.
"""

import matplotlib.pyplot as plt
import torch

from innverse import bijections, flows
from innverse.metrics.memory import peak_tensor_bytes

torch.manual_seed(0)
x = torch.rand(8, 1, 32, 32)
depths = (2, 4, 8, 16)
modes = {"store": "every activation", "checkpoint": "one state a layer", "reversible": "one state"}
peaks = {mode: [] for mode in modes}
gradients = {}
for steps in depths:
    flow = flows.build("glow", (1, 32, 32), levels=2, steps=steps, hidden=32)
    bijections.initialize(flow, x)
    for mode in modes:
        flow.set_memory(mode)

        def step(flow=flow):
            flow.zero_grad()
            flow.log_prob(x).sum().backward()

        peaks[mode].append(peak_tensor_bytes(step) / 2**20)
        gradients[mode] = torch.cat([p.grad.flatten() for p in flow.parameters()])

figure, axes = plt.subplots()
for mode, keeps in modes.items():
    axes.plot([2 * d for d in depths], peaks[mode], "o-", label=f"{mode}: {keeps}")
axes.set(xlabel="couplings", ylabel="megabytes at the peak", title="one gradient of a Glow")
axes.legend()
for mode, found in peaks.items():
    print(f"{mode:10s}", *(f"{mb:6.1f}" for mb in found), "MB")

# %%
# The gradient is the same; the reversible one differs by the rounding of the inverse.

scale = gradients["store"].norm()
for mode in ("checkpoint", "reversible"):
    print(f"{mode:10s} differs by {(gradients[mode] - gradients['store']).norm() / scale:.1e}")
