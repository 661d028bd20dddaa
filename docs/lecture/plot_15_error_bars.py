r"""
An error bar, and whether it holds
==================================

The density is exact, so draws of p(x | y) by Hamiltonian Monte Carlo are draws of the posterior and not
of an approximation to it. Their spread is the error bar of each pixel.
"""

# %%
# A photograph with a hole
# ------------------------
# Eighty draws are for this page; the chains have not met yet, and say so. Ask for some hundreds.

import matplotlib.pyplot as plt
import torch

import innverse
from innverse.data import open_images
from innverse.metrics import calibration
from innverse.physics import Inpainting

g = torch.Generator().manual_seed(0)
prior = innverse.load("natural-gray")
photograph = open_images("skimage", subset="camera", channels=1)[0][:, 60:188, 170:298] / 255.0
x = torch.nn.functional.avg_pool2d(photograph, 8)[None]  # (1, 1, 16, 16)
mask = (torch.rand(16, 16, generator=g) < 0.6).float()
mask[6:9, 5:10] = 0
physics = Inpainting(mask, noise=0.08)
y = physics(x, g)
settings = {"sigma": 0.07, "of": "clean", "chains": 4, "warmup": 40, "steps": 5}
result = innverse.solve(y, physics, prior, "posterior", draws=80, **settings)

figure, panels = plt.subplots(1, 5, figsize=(10, 2.4))
shown = {
    "original": x,
    "measured": torch.where(mask > 0, y, torch.nan),
    "mean of the draws": result.x,
    "error": (result.x - x).abs(),
    "error bar": result.std,
}
top = 0.2
for axes, (name, image) in zip(panels, shown.items(), strict=True):
    error = name.startswith("error")
    axes.imshow(image[0, 0], cmap="cividis" if error else "gray", vmin=0, vmax=top if error else 1)
    axes.set_facecolor("#b0c4de")
    axes.set(title=name, xticks=[], yticks=[])
print(result.status)

# %%
# Four of the draws: they agree where there are data, and differ where there are none.

figure, panels = plt.subplots(1, 4, figsize=(8, 2.3))
for axes, image in zip(panels, result.samples[::20], strict=True):
    axes.imshow(image[0, 0], cmap="gray", vmin=0, vmax=1)
    axes.axis("off")

# %%
# Does it hold?
# -------------
# Pictures drawn from the prior have a known truth: an interval of 90 % must hold it in 90 % of the
# pixels. Twenty small pictures, solved side by side, at all levels at once.

u = prior.sample(20, 0.05, size=(8, 8), generator=g)
small = Inpainting.random((1, 8, 8), keep=0.5, generator=g, noise=0.05)
many = innverse.solve(
    small(u, g), small, prior, "posterior", sigma=0.05, draws=60, chains=3, warmup=20, steps=5
)
levels = torch.linspace(0.1, 0.9, 9)
found = calibration.coverage(many, u, levels=levels.tolist())
figure, axes = plt.subplots(figsize=(4, 3.4))
axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
axes.plot(levels, found.covered.mean(1), "o-")
axes.set(xlabel="promised", ylabel="pixels that lie within", title="intervals of 1,280 pixels")
