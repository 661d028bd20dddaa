r"""
Through latent space: interpolation and attributes
==================================================

The code of a picture is exact, so a walk through latent space begins at the picture itself and ends at
another one, and a direction that means something can be added to any face.
"""

# %%
# From one face to another
# ------------------------
# Faces of scikit-image, 25x25 and gray, enlarged: not what the model makes, but what it can encode.

import matplotlib.pyplot as plt
import torch
from skimage.data import lfw_subset

import innverse
from innverse.flows import Attribute

flow = innverse.load("faces64")
faces = torch.tensor(lfw_subset()[:100]).float().unsqueeze(1)
faces = torch.nn.functional.interpolate(faces, (64, 64), mode="bicubic").clamp(0, 1)
faces = faces.expand(-1, 3, -1, -1)


def show(rows, names):
    size = (9, 1.3 * len(rows))
    _, panels = plt.subplots(len(rows), len(rows[0]), figsize=size, squeeze=False)
    for line, images, name in zip(panels, rows, names, strict=True):
        for axes, image in zip(line, images, strict=True):
            axes.imshow(image.permute(1, 2, 0).clamp(0, 1))
            axes.set(xticks=[], yticks=[], frame_on=False)
        line[0].set_ylabel(name)


a, b = faces[7], faces[31]
arc = flow.interpolate(a, b, steps=8, c=0.02)
line = torch.stack([(1 - t) * a + t * b for t in torch.linspace(0, 1, 8)])
show([arc, line], ["latents", "pixels"])

# %%
# An attribute: light from the left
# ---------------------------------
# The difference of two mean latents: of faces that are brighter on their left, and of those that are
# darker there. Its length beside that of chance says what it is worth: of 60 small faces most of it is
# still chance, which falls as one over the square root of their number.

brighter = (faces[:, 0, :, :32].mean((1, 2)) - faces[:, 0, :, 32:].mean((1, 2))).argsort()
light = Attribute.between(flow, faces[brighter[-30:]], faces[brighter[:30]], 0.02)
print(f"length {light.length:.1f}; by chance {light.noise:.1f}")

strengths = torch.linspace(-1.5, 1.5, 7)
show([light.apply(flow, faces[i], strengths) for i in (7, 52)], ["one face", "another"])
