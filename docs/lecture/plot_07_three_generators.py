r"""
VAE, GAN and invertible network on the same digits
==================================================

All three turn normal numbers into pictures, x = G(z). Only the invertible network knows the density of
what it makes; the VAE bounds it, the GAN has none.
"""

# %%
# The flow is the one that ships with the package; VAE and GAN train here, for a few seconds, on the
# same 1,597 digits.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import innverse
from innverse.data import open_images
from innverse.train import load_config, train

torch.manual_seed(0)
digits = open_images("digits").stack()
held_out = digits[1597:]
flow = innverse.load("digits")


def trained(name, steps, **options):
    settings = {"data.path": "digits", "data.held_out": 200, "train.batch_size": 64}
    settings |= {"model.name": name, "model.latent": 16, "train.steps": steps}
    folder = Path(tempfile.mkdtemp())
    outcome = train(load_config(None, settings | options), folder, quiet=True)
    return innverse.load(outcome.model)


vae = trained("vae", 300, **{"train.lr": 2e-3, "model.beta": 3.0})
gan = trained("gan", 500)

# %%
# What they draw
# --------------

models = {"invertible network": flow, "VAE": vae, "GAN": gan}
figure, panels = plt.subplots(1, 4, figsize=(10, 2.8))


def sheet(images):
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    return padded.view(6, 6, 10, 10).transpose(1, 2).reshape(60, 60)


panels[0].imshow(sheet(held_out[:36] / 255.0), cmap="gray_r")
panels[0].set_title("held-out digits")
for axes, (name, model) in zip(panels[1:], models.items(), strict=True):
    axes.imshow(sheet(model.sample(36)), cmap="gray_r", vmin=0, vmax=1)
    axes.set_title(name)
for axes in panels:
    axes.axis("off")

# %%
# What they know
# --------------
# Bits per number of held-out digits (less is better), and what is left of a digit that goes to its
# code and back.

with torch.no_grad():
    exact = float(flow.bits_per_dim(held_out).mean())
    elbo = float(vae.bits_per_dim(held_out, samples=1).mean())
    bound = float(vae.bits_per_dim(held_out, samples=100).mean())
    x = held_out[:8] / 255.0
    back = {"invertible network": flow.decode(flow.encode(x)), "VAE": vae.reconstruct(x)}
    closest = innverse.solve(
        x, innverse.physics.Denoising(), gan, "latent", start="random", steps=60
    )

print(f"invertible network  {exact:.2f} bits/dim, exact")
print(f"VAE                 at most {elbo:.2f} by the ELBO, {bound:.2f} by 100 weighted draws")
print("GAN                 no likelihood")

rows = {"digits": x, **back, "GAN, the closest found": closest.x}
figure, panels = plt.subplots(len(rows), 8, figsize=(8, 4))
for (name, images), line in zip(rows.items(), panels, strict=True):
    psnr = innverse.metrics.psnr(images, x).mean()
    for axes, image in zip(line, images, strict=True):
        axes.imshow(image[0], cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[], frame_on=False)
    label = name if name == "digits" else f"{name}\n{psnr:.0f} dB"
    line[0].set_ylabel(label, rotation=0, ha="right", va="center")
