r"""
Samples and temperature
=======================

x = G(z) with z drawn from N(0, T^2 I). At T = 1 the draws are those of the density; a lower temperature
keeps to the middle of latent space, where faces are smoother and more alike.
"""

import matplotlib.pyplot as plt
import torch

import innverse

flow = innverse.load("faces64").at(0.02)
temperatures = (0.3, 0.5, 0.7, 0.85, 1.0)
figure, panels = plt.subplots(len(temperatures), 8, figsize=(8, 5.4))
likelihoods = {}
with torch.no_grad():
    for row, temperature in zip(panels, temperatures, strict=True):
        draws = flow.sample(24, temperature=temperature, generator=torch.Generator().manual_seed(4))
        likelihoods[temperature] = flow.log_prob(draws)
        for axes, image in zip(row, flow.denoise(draws[:8]), strict=True):
            axes.imshow(image.permute(1, 2, 0).clamp(0, 1))
            axes.set(xticks=[], yticks=[], frame_on=False)
        row[0].set_ylabel(f"T = {temperature}", rotation=0, ha="right", va="center")

# %%
# Each draw has its density. The typical draw is not the most likely picture: that is at T = 0, and
# in 12,288 dimensions nobody ever draws it, since nearly all of the mass lies in a thin shell, where
# the norm of z is near :math:`\sqrt n`.

with torch.no_grad():
    middle = flow.decode(torch.zeros(1, *flow.latent_shape))
    at_zero = float(flow.log_prob(middle))
figure, axes = plt.subplots()
axes.boxplot(list(likelihoods.values()), positions=temperatures, widths=0.05, manage_ticks=False)
axes.plot(0, at_zero, "o", color="C1", label="z = 0")
axes.set(xlabel="temperature", ylabel="log p(x), nats", title="24 draws at each temperature")
axes.legend()
