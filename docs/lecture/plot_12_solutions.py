r"""
Priors for inverse problems: MAP, latent, and the path from z = 0
=================================================================

A face of 64x64 pixels, of which a fifth of the numbers that would determine it were measured, at
random: y = A x. The flow says which of the pictures that explain y is a face.
"""

# %%
# Three solutions
# ---------------
# The latent search minimises the misfit of A G(z), from z = 0; MAP maximises log p(x) - misfit over
# pictures; without noise, the most likely picture *among those that explain y exactly* is the third.

import matplotlib.pyplot as plt
import torch
from skimage.data import astronaut

import innverse
from innverse.metrics import psnr
from innverse.physics import FastCompressedSensing

flow = innverse.load("faces64")
x = torch.tensor(astronaut()[5:175, 140:310] / 255.0).float().permute(2, 0, 1)[None]
x = torch.nn.functional.interpolate(x, (64, 64), mode="area")
physics = FastCompressedSensing(2458, (3, 64, 64), noise=0.0)
y = physics.A(x)

settings = {
    "latent": {"steps": 60},
    "map": {"steps": 50, "noise": 0.01},
    "constrained": {"steps": 50},
}
found = {}
for method, options in settings.items():  # the other two go on from what the first has found
    init = {"init": found["latent"].x} if found else {}
    found[method] = innverse.solve(y, physics, flow, method, **options, **init)
pictures = {"original": x, "least squares": physics.A_adjoint(y)}
pictures |= {method: result.x for method, result in found.items()}

figure, panels = plt.subplots(1, 5, figsize=(9, 2.2))
for axes, (name, image) in zip(panels, pictures.items(), strict=True):
    axes.imshow(image[0].permute(1, 2, 0).clamp(0, 1))
    quality = "" if name == "original" else f"\n{float(psnr(image, x)):.1f} dB"
    axes.set_title(name + quality)
    axes.axis("off")

# %%
# What each gave up: the residual, and the density.

for method, result in found.items():
    level = float(flow.at(0.02).log_prob(result.x))
    print(f"{method:12s} residual {float(result.residual):.4f}, log p at 0.02: {level:.0f} nats")

# %%
# The path from z = 0
# -------------------
# z = 0 is the most likely latent. The search leaves it step by step, first for the coarse things; the
# norm of z grows as far as the data ask for it, and no further.

stops = (1, 3, 6, 12, 25, 60)
path = [innverse.solve(y, physics, flow, "latent", steps=n) for n in stops[:-1]] + [found["latent"]]
with torch.no_grad():
    first = flow.at(0.02).decode(torch.zeros(1, *flow.latent_shape))
figure, panels = plt.subplots(1, 7, figsize=(10, 2))
names = ["z = 0", *(f"{n} steps" for n in stops)]
for axes, name, image in zip(panels, names, [first, *(r.x for r in path)], strict=True):
    axes.imshow(image[0].permute(1, 2, 0).clamp(0, 1))
    axes.set_title(name)
    axes.axis("off")

# %%
# A random start of typical length has far to go and ends elsewhere:

random = innverse.solve(y, physics, flow, "latent", steps=25, start="random")
figure, axes = plt.subplots()
for label, result in {"from z = 0": path[-2], "from a random z": random}.items():
    axes.semilogy([row["value"][0] for row in result.trace], label=label)
axes.set(xlabel="evaluations", ylabel="misfit", title="25 steps of L-BFGS")
axes.legend()
quality = {"z = 0": path[-2], "random z": random}
print({name: f"{float(psnr(result.x, x)):.1f} dB" for name, result in quality.items()})
