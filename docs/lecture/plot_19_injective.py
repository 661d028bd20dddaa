r"""
A flow on a surface
===================

A flow has as many latents as the data have numbers. Where the data lie on a surface, an injective flow
has only as many as the surface has dimensions, and an exact density *on* it.
"""

import matplotlib.pyplot as plt
import torch

from innverse import flows

torch.manual_seed(0)
t = 2 * torch.pi * torch.rand(3000)
radius = 1 + 0.15 * torch.randn(3000)
x, y = radius * t.cos(), radius * t.sin()
data = torch.stack([x, y, 0.6 * (x**2 - y**2)], 1)  # a ring on a saddle
data = data + 0.02 * torch.randn(data.shape)

flow = flows.build("injective", (3,), latent=2, steps=3, width=32, levels=2, hidden=32)
flow.fit(data, batch_size=256, lr=3e-3, max_epochs=25, progress=False)

# %%
# A code of two numbers for each point, and back
# ----------------------------------------------

with torch.no_grad():
    codes = flow.encode(data)
    back = flow.decode(codes)
    draws = flow.sample(1500)
figure = plt.figure(figsize=(9, 3))
left = figure.add_subplot(1, 3, 1, projection="3d")
left.scatter(*data[::2].T, s=1, c=t[::2], cmap="cividis")
left.set_title("data in space")
middle = figure.add_subplot(1, 3, 2)
middle.scatter(*codes.T, s=1, c=t, cmap="cividis")
middle.set(title="their codes in the plane", aspect="equal")
right = figure.add_subplot(1, 3, 3, projection="3d")
right.scatter(*draws.T, s=1, c="C1")
right.set_title("draws: on the surface")
for axes in (left, right):
    axes.set(xticks=[], yticks=[], zticks=[])
    axes.view_init(12, -75)
error = (back - data).norm(dim=1)
print(f"distance of the data from the surface: median {error.median():.3f} (the noise is 0.02)")
