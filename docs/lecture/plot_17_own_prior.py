r"""
A prior of your own, from one picture
=====================================

A material under the microscope, a fabric, a wall: patches of one picture are enough to learn what such
pictures look like, in seconds (Altekrueger et al. 2023). It then sharpens another piece of the same
material that was recorded too small.
"""

import matplotlib.pyplot as plt
import torch
from skimage.data import brick

import innverse
from innverse import flows
from innverse.metrics import psnr
from innverse.physics import Downsampling

torch.manual_seed(0)
wall = torch.nn.functional.avg_pool2d(
    torch.tensor(brick() / 255.0).float()[None], 2
)  # (1, 256, 256)
learned, unseen = wall[:, :, :160], wall[:, :96, 160:]

# %%
# Patches of 8x8 pixels, at random places of the left part, also mirrored. The flow is conditional on a
# noise level, which ``fit`` draws anew at every step: so it can denoise, and solve.

corner = torch.randint(0, 150, (6000, 2))
patches = torch.stack([learned[:, i : i + 8, j : j + 8] for i, j in corner.tolist()])
prior = flows.build("patches", (1, 8, 8), hidden=64, steps=4, noise=(0.008, 0.4))
history = prior.fit(patches, batch_size=256, lr=3e-3, max_epochs=40, progress=False)

figure, panels = plt.subplots(1, 3, figsize=(9, 3))
panels[0].imshow(learned[0], cmap="gray", vmin=0, vmax=1)
panels[0].set_title("the picture it learns from")
panels[1].imshow(patches[:36, 0].view(6, 6, 8, 8).transpose(1, 2).reshape(48, 48), cmap="gray")
panels[1].set_title("36 of its patches")
draws = prior.sample(36, 0.02)
panels[2].imshow(draws[:, 0].view(6, 6, 8, 8).transpose(1, 2).reshape(48, 48), cmap="gray")
panels[2].set_title("36 draws of the flow")
for axes in panels:
    axes.axis("off")

# %%
# Another piece, recorded at half the size
# ----------------------------------------

x = unseen[None]
physics = Downsampling(2, (1, 96, 96), noise=0.01)
y = physics(x, torch.Generator().manual_seed(0))
found = innverse.solve(y, physics, prior, "pnp", steps=25)
enlarged = torch.nn.functional.interpolate(y, (96, 96), mode="bicubic")
plain = innverse.solve(y, physics, method="tv")

figure, panels = plt.subplots(1, 4, figsize=(10, 2.9))
shown = {"original": x, "bicubic": enlarged, "total variation": plain.x, "patches": found.x}
for axes, (name, image) in zip(panels, shown.items(), strict=True):
    axes.imshow(image[0, 0], cmap="gray", vmin=0, vmax=1)
    quality = "" if name == "original" else f", {float(psnr(image, x)):.1f} dB"
    axes.set_title(name + quality)
    axes.axis("off")

# sphinx_gallery_thumbnail_number = 2
