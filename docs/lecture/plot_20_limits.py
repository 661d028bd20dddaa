r"""
What flows cannot do, in numbers
================================

Exact likelihood has a price. Four of them, measured.
"""

# %%
# They cannot tear space
# ----------------------
# A continuous map cannot make two islands out of one. Between two modes a flow leaves a bridge, thinner
# the more it stretches: its Lipschitz constant must grow.

import time

import matplotlib.pyplot as plt
import torch

import innverse
from innverse import flows

torch.manual_seed(0)
figure, panels = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True)
axis = torch.linspace(-1.6, 1.6, 400)[:, None]
for axes, distance in zip(panels, (0.5, 0.8, 1.2), strict=True):
    sign = torch.where(torch.rand(3000, 1) < 0.5, -1.0, 1.0)
    data = distance * sign + 0.08 * torch.randn(3000, 1)
    flow = flows.build("maf", (1,), layers=2, width=16, transform="spline")
    flow.fit(data, batch_size=256, lr=5e-3, max_epochs=15, progress=False)
    with torch.no_grad():
        density = flow.log_prob(axis).exp()
        empty = float((flow.sample(20_000).abs() < distance - 0.32).float().mean())
    axes.fill_between(axis[:, 0], density, color="C0", alpha=0.5)
    axes.set(title=f"distance {2 * distance}: {100 * empty:.2f} % between", xlabel="x")
panels[0].set_ylabel("density")

# %%
# They have no short code, and cost more
# --------------------------------------
# Three generators of faces that ship with the package, of equal size; one thread.

torch.set_num_threads(1)
print("                    parameters   numbers of a code   ms a draw   minutes of training")
for name in ("faces64", "faces64-vae", "faces64-gan"):
    model = innverse.load(name)
    parameters = sum(p.numel() for p in model.parameters())
    code = torch.Size(model.latent_shape).numel()
    at = model.at(0.02) if name == "faces64" else model
    at.sample(16)
    start = time.perf_counter()
    at.sample(16)
    ms = 1000 * (time.perf_counter() - start) / 16
    minutes = innverse.zoo.training(name)["minutes"]
    print(f"{name:18s} {parameters:12,d} {code:16,d} {ms:14.1f} {minutes:18.0f}")

# %%
# Their samples are not the best
# ------------------------------
# Of models of one size that train for hours at most, those without a likelihood make the prettier
# faces. Take a flow for what it knows, not for what it draws.

figure, panels = plt.subplots(1, 3, figsize=(9, 3.2))
for axes, (name, title) in zip(
    panels, {"faces64": "flow", "faces64-vae": "VAE", "faces64-gan": "GAN"}.items(), strict=True
):
    model = innverse.load(name)
    torch.manual_seed(1)
    if name == "faces64":
        images = model.denoise(model.sample(16, 0.02, temperature=0.7), 0.02)
    else:
        images = model.sample(16, temperature=0.8)
    sheet = images.view(4, 4, 3, 64, 64).permute(0, 3, 1, 4, 2).reshape(256, 256, 3)
    axes.imshow(sheet.clamp(0, 1))
    axes.set_title(title)
    axes.axis("off")

# %%
# Likely is not typical
# ---------------------
# A simple picture can be more likely than any of the training data: exact likelihood is no detector of
# what is strange by itself (Nalisnick et al. 2019).

prior = innverse.load("natural-gray").at(0.02)
photograph = innverse.data.open_images("skimage", subset="camera", channels=1)[0] / 255.0
pieces = {
    "a photograph": torch.nn.functional.avg_pool2d(photograph, 8)[None],
    "a grey square": torch.full((1, 1, 64, 64), 0.5),
    "noise": torch.rand(1, 1, 64, 64),
}
with torch.no_grad():
    for name, image in pieces.items():
        noisy = image + 0.02 * torch.randn(image.shape)
        print(f"{name:14s} {float(prior.bits_per_dim(noisy)):6.2f} bits per pixel")
