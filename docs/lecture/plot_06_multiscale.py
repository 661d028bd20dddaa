r"""
The multi-scale architecture
============================

A Glow is a nest: squeeze, some steps of (ActNorm, 1x1 convolution, coupling), then half of the channels
leave as latents and the other half goes on at half the resolution. The drawing is made of the model
itself, by walking through its modules.
"""

# %%
# Drawn from the model
# --------------------

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle

import innverse
from innverse.bijections import Chain, Coupling, Haar, Partial, Squeezed

flow = innverse.load("faces64")


def levels(bijection, shape):
    """(shape inside, number of couplings, channels that leave), level by level."""
    found = []
    while isinstance(bijection, (Squeezed, Haar, Partial, Chain)):
        if isinstance(bijection, Chain):
            couplings = sum(isinstance(layer, Coupling) for layer in bijection.layers)
            last = bijection.layers[-1]
            goes_on = isinstance(last, Partial)
            leaves = shape[0] - last.k if goes_on else shape[0]
            found.append((shape, couplings, leaves))
            bijection = last
        elif isinstance(bijection, Partial):
            shape, bijection = (bijection.k, *shape[1:]), bijection.inner
        else:
            c, h, w = shape
            shape, bijection = (4 * c, h // 2, w // 2), bijection.inner
    return found


found = levels(flow.bijection, flow.shape)
figure, axes = plt.subplots(figsize=(9, 3.6))
for k, ((c, h, w), couplings, leaves) in enumerate(found):
    left, height, width = 2.6 * k, h / 12, 0.12 * c**0.75
    axes.add_patch(Rectangle((left, -height / 2), width, height, color="C0", alpha=0.8))
    out = width * leaves / c
    axes.add_patch(Rectangle((left, -height / 2), out, height, color="C1", alpha=0.9))
    axes.text(left, height / 2 + 0.1, f"level {k + 1}: ({c}, {h}, {w})\n{couplings} couplings")
    axes.annotate(
        f"{leaves * h * w:,} latents",
        (left + out / 2, -height / 2),
        (left, -2.3),
        arrowprops={"arrowstyle": "<-", "color": "C1"},
        color="#9a4300",
    )
axes.set(xlim=(-0.3, 2.6 * len(found) + 0.8), ylim=(-2.6, 2.4))
axes.axis("off")
total = sum(leaves * h * w for (c, h, w), _, leaves in found)
print(f"{total} latents for {flow.shape[0] * flow.shape[1] * flow.shape[2]} numbers of an image")

# %%
# A flow shows itself in a notebook, as the tree of its layers: unfold a level to see its steps.

flow.eval()

# %%
# What each level holds
# ---------------------
# The latents of one level are drawn anew, those of the others stay. The first levels hold the grain,
# the last one whose face it is.


def part_of_level(bijection, z, level):
    """z with zeros in all latents but those of the level."""
    if isinstance(bijection, (Squeezed, Haar)):
        return bijection.up(part_of_level(bijection.inner, bijection.down(z), level))
    last = bijection.layers[-1]
    if not isinstance(last, Partial):
        return z if level == 0 else torch.zeros_like(z)
    inner, outer = last.apart(z)
    if level == 0:
        return last.merge(torch.zeros_like(inner), outer)
    return last.merge(part_of_level(last.inner, inner, level - 1), torch.zeros_like(outer))


generator = torch.Generator().manual_seed(3)
at = flow.at(0.02)
z = 0.6 * torch.randn(1, *flow.latent_shape, generator=generator)
new = 0.6 * torch.randn(3, *flow.latent_shape, generator=generator)
figure, panels = plt.subplots(3, 1 + len(found), figsize=(7.5, 4.8))
with torch.no_grad():
    original = at.decode(z)
    for k in range(len(found)):
        changed = z + part_of_level(flow.bijection, new - z, k)
        for axes, image in zip(panels[:, k + 1], at.decode(changed), strict=True):
            axes.imshow(image.permute(1, 2, 0).clamp(0, 1))
        panels[0, k + 1].set_title(f"level {k + 1} anew")
panels[0, 0].imshow(original[0].permute(1, 2, 0).clamp(0, 1))
panels[0, 0].set_title("original")
for axes in panels.flat:
    axes.axis("off")

# sphinx_gallery_thumbnail_number = 2
