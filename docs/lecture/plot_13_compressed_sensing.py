r"""
Compressed sensing, in and out of distribution
==============================================

Asim et al. (2020): a generator with few latents cannot leave the surface of what it was trained on,
so more measurements stop helping, and pictures of another kind are out of reach. A flow can represent
every picture, and gains with each measurement.
"""

import matplotlib.pyplot as plt
import torch
from skimage.data import astronaut, chelsea

import innverse
from innverse.metrics import psnr
from innverse.physics import FastCompressedSensing


def square(picture, top, left, side):
    cut = torch.tensor(picture[top : top + side, left : left + side] / 255.0).float()
    return torch.nn.functional.interpolate(cut.permute(2, 0, 1)[None], (64, 64), mode="area")


x = torch.cat([square(astronaut(), 5, 140, 170), square(chelsea(), 0, 70, 300)])
n = 3 * 64 * 64
searches = {
    "flow": ("faces64", {"method": "map", "steps": 50}),
    "VAE": ("faces64-vae", {"method": "latent", "steps": 30}),
    "GAN": ("faces64-gan", {"method": "latent", "steps": 30, "start": "random"}),
    "total variation": (None, {"method": "tv", "steps": 150}),
}
ratios = (0.05, 0.12, 0.3)
quality = {name: [] for name in searches}
pictures = {}
for ratio in ratios:
    physics = FastCompressedSensing(int(ratio * n), (3, 64, 64), noise=0.01)
    y = physics(x, torch.Generator().manual_seed(0))
    for name, (prior, options) in searches.items():
        result = innverse.solve(y, physics, prior, **options)
        quality[name].append(psnr(result.x, x))
        pictures[name] = result.x

# %%
# With 30 % of the numbers
# ------------------------
# The face is of the kind that the three were trained on, the cat is not.

figure, panels = plt.subplots(2, 5, figsize=(9, 3.9))
for column, (name, images) in zip(panels.T, {"original": x, **pictures}.items(), strict=True):
    for k, axes in enumerate(column):
        axes.imshow(images[k].permute(1, 2, 0).clamp(0, 1))
        axes.axis("off")
        decibel = (
            "" if name == "original" else f"{float(psnr(images[k : k + 1], x[k : k + 1])):.1f} dB"
        )
        axes.set_title(f"{name}\n{decibel}" if k == 0 else decibel)

# %%
# More measurements
# -----------------

figure, panels = plt.subplots(1, 2, sharey=True)
for k, (axes, title) in enumerate(zip(panels, ("a face", "a cat: never seen"), strict=True)):
    for name, values in quality.items():
        axes.semilogx(ratios, [float(v[k]) for v in values], "o-", label=name)
    axes.set(title=title, xlabel="m / n", xticks=ratios, xticklabels=ratios)
    axes.minorticks_off()
panels[0].set_ylabel("PSNR, dB")
panels[0].legend()

# %%
# This is two pictures and a short search. The study with all baselines, on 100 pictures of each kind,
# is ``innverse reproduce asim2020``:
#
# .. image:: ../../benchmarks/results/asim2020.png
#    :alt: PSNR against the number of measurements for four sets of pictures and ten methods

# sphinx_gallery_thumbnail_number = 1
