r"""
Tomography from few angles
==========================

Each view of a scanner measures integrals along lines. With 20 views instead of 180 the classical
reconstruction has streaks; a prior of pictures has not.
"""

import matplotlib.pyplot as plt
import torch
from skimage.data import shepp_logan_phantom

import innverse
from innverse.metrics import psnr
from innverse.physics import Tomography

phantom = torch.tensor(shepp_logan_phantom()).float()[None, None]
x = torch.nn.functional.interpolate(phantom, (64, 64), mode="area")
physics = Tomography((1, 64, 64), angles=20, noise=0.1)
y = physics(x, torch.Generator().manual_seed(0))

prior = innverse.load("natural-gray")
found = innverse.solve(y, physics, prior, "pnp", steps=30)
plain = innverse.solve(y, physics, method="tv")

figure, panels = plt.subplots(1, 5, figsize=(11, 2.7))
panels[0].imshow(y[0, 0], aspect="auto", cmap="cividis")
panels[0].set(title="sinogram", xlabel="detector", ylabel="view")
shown = {
    "original": x,
    "back-projection": physics.filtered_back_projection(y),
    "total variation": plain.x,
    "the flow": found.x,
}
for axes, (name, image) in zip(panels[1:], shown.items(), strict=True):
    axes.imshow(image[0, 0], cmap="gray", vmin=0, vmax=1)
    quality = "" if name == "original" else f"\n{float(psnr(image, x)):.1f} dB"
    axes.set_title(name + quality)
    axes.axis("off")

# %%
# A phantom of flat pieces is the best case of total variation. Of photographs it is not, which is what
# the prior has learned: train one on scans, and it knows scans.
#
# Few views of pictures with texture
# ----------------------------------

from skimage.data import camera  # noqa: E402

x = torch.tensor(camera()[60:316, 120:376] / 255.0).float()[None, None]
x = torch.nn.functional.avg_pool2d(x, 4)
print("views, dB: total variation, the flow")
for views in (10, 20, 40):
    physics = Tomography((1, 64, 64), angles=views, noise=0.1)
    y = physics(x, torch.Generator().manual_seed(0))
    plain = innverse.solve(y, physics, method="tv")
    found = innverse.solve(y, physics, prior, "pnp", steps=30)
    print(f"{views:5d}      {float(psnr(plain.x, x)):15.1f}  {float(psnr(found.x, x)):8.1f}")
