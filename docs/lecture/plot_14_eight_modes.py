r"""
Eight modes, forwards and backwards
===================================

The toy of Ardizzone et al. (2018): a point comes from one of eight clusters, and all that is observed
is its colour. Forwards that is easy. Backwards one colour has four answers, one two, two have one; an
invertible network [y, z] = f(theta), run backwards with z drawn at random, finds them all.
"""

import matplotlib.pyplot as plt
import torch

from innverse import amortized
from innverse.data import simulators

torch.manual_seed(0)
task = simulators.get("eight_modes")
theta, x = task.pairs(8000)
settings = {"layers": 6, "width": 32, "batch_size": 256, "max_epochs": 15, "progress": False}
both = amortized.fit_bidirectional(theta, x, loss="ml", **settings)

# %%
# Backwards: draws of theta given each colour
# -------------------------------------------

NAMES = ("blue: four modes", "vermilion: two", "green: one", "pink: one")
figure, panels = plt.subplots(1, 5, figsize=(11, 2.5))
panels[0].scatter(*theta[:2000].T, s=1, c=[f"C{int(k)}" for k in x[:2000].argmax(1)])
panels[0].set_title("what was simulated")
for k, axes in enumerate(panels[1:]):
    draws = both.sample((800,), x=torch.eye(4)[k])
    axes.scatter(*task.centres.T, s=60, facecolors="none", edgecolors="0.7")
    axes.scatter(*draws.T, s=1, color=f"C{k}")
    axes.set_title(NAMES[k])
for axes in panels:
    axes.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal", xticks=[], yticks=[])

# %%
# Forwards, by the same network: the colour of every point of the plane.

axis = torch.linspace(-1.5, 1.5, 120)
plane = torch.cartesian_prod(axis, axis)
predicted = both.predict(plane).argmax(1).view(120, 120)
fresh, colours = task.pairs(2000)
right = (both.predict(fresh).argmax(1) == colours.argmax(1)).float().mean()
palette = plt.matplotlib.colors.ListedColormap(["C0", "C1", "C2", "C3"])
figure, axes = plt.subplots(figsize=(4, 3.4))
axes.imshow(
    predicted.T, origin="lower", extent=(-1.5, 1.5, -1.5, 1.5), cmap=palette, vmax=3, alpha=0.5
)
axes.scatter(*task.centres.T, s=60, facecolors="none", edgecolors="black")
axes.set(title=f"{100 * right:.1f} % of new points right", xticks=[], yticks=[])

# %%
# How often each mode is drawn beside how often it should be: a quarter each for blue.

nearest = task.nearest(both.sample((4000,), x=torch.eye(4)[0]))
shares = torch.bincount(nearest, minlength=8) / 4000
print("blue, share of each mode:", [f"{float(s):.2f}" for s in shares])
