r"""
A flow, layer by layer
======================

A deep flow is a chain of simple bijections; log-determinants add. Here one learns two moons in a few
seconds, and then we watch what each of its layers does to the data.
"""

# %%
# Training is maximum likelihood, nothing else: no critic, no bound.

import matplotlib.pyplot as plt
import torch
from matplotlib.animation import FuncAnimation

from innverse import flows
from innverse.bijections import Coupling

torch.manual_seed(0)


def two_moons(n):
    angle = torch.pi * torch.rand(n)
    upper = torch.rand(n) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], 1) + 0.06 * torch.randn(n, 2), upper


data, upper = two_moons(3000)
flow = flows.build("realnvp", (2,), layers=8, width=32)
history = flow.fit(data, batch_size=128, lr=3e-3, max_epochs=35, progress=False)

# %%
# From data to noise
# ------------------
# The two moons through the couplings, in motion. What they end as is a standard normal, and the
# colours, which no layer ever saw, are still apart: an invertible map forgets nothing.

stages = [(data - data.mean(0)) / data.std(0)]
with torch.no_grad():
    v = data
    for layer in flow.bijection.layers:
        v = layer(v)[0]
        if isinstance(layer, Coupling):
            stages.append(v)

figure, axes = plt.subplots(figsize=(3.6, 3.6), dpi=80)
dots = axes.scatter(*stages[0].T, s=2, c=upper.float(), cmap="cividis", vmax=1.3)
axes.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), xticks=[], yticks=[], aspect="equal")
STEPS = 5


def show(frame):
    layer, part = divmod(frame, STEPS)
    t = part / STEPS
    later = stages[min(layer + 1, len(stages) - 1)]
    dots.set_offsets((1 - t) * stages[layer] + t * later)
    axes.set_title(f"after layer {layer} of {len(stages) - 1}")


film = FuncAnimation(figure, show, frames=STEPS * (len(stages) - 1) + 1, interval=120)

# %%
# The same as a strip:

picked = [0, 2, 4, 6, 8]
strip, panels = plt.subplots(1, len(picked), figsize=(9, 2.1))
for axes, k in zip(panels, picked, strict=True):
    axes.scatter(*stages[k].T, s=1, c=upper.float(), cmap="cividis", vmax=1.3)
    title = f"layer {k}" if k else "data"
    axes.set(title=title, xticks=[], yticks=[], aspect="equal", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5))

# %%
# And back: noise becomes moons
# -----------------------------
# The density is known everywhere, exactly, and its draws come from the same formula read backwards.

with torch.no_grad():
    axis = torch.linspace(-2, 3, 200)
    points = torch.cartesian_prod(axis, axis * 0.6)
    density = flow.log_prob(points).exp().view(200, 200)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
left.imshow(density.T, origin="lower", extent=(-2, 3, -1.2, 1.8))
left.set(title="the density", xticks=[], yticks=[])
draws = flow.sample(3000)
right.scatter(*draws.T, s=1)
right.set(title="3,000 draws", xticks=[], yticks=[], xlim=(-2, 3), ylim=(-1.2, 1.8), aspect="equal")

# sphinx_gallery_thumbnail_number = 3
