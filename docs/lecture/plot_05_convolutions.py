r"""
Convolutions made invertible
============================

A convolution cannot simply be inverted, and its determinant is that of a huge matrix. Four ways in
which flows of images have convolutions all the same: squeeze and mix channels (1x1), put convolutional
networks inside couplings, and, with a kernel of any size, order or wrap the pixels (Hoogeboom et al.
2019).
"""

# %%
# Squeeze
# -------
# Blocks of 2x2 pixels become four channels: nothing is lost, and a channel is a picture of half the
# resolution.

import matplotlib.pyplot as plt
import torch

from innverse import bijections as b
from innverse.data import open_images
from innverse.nets import ConvNet

torch.manual_seed(0)
photograph = open_images("skimage", subset="camera", channels=1)[0][:, 40:296, 120:376] / 255.0
picture = torch.nn.functional.avg_pool2d(photograph, 4)[None]  # (1, 1, 64, 64)
channels = b.Squeezed(b.ActNorm(4)).down(picture)[0]

figure, panels = plt.subplot_mosaic([["a", "a", 0, 1], ["a", "a", 2, 3]], figsize=(6.4, 3.4))
panels["a"].imshow(picture[0, 0], cmap="gray")
panels["a"].set_title("(1, 64, 64)")
for k in range(4):
    panels[k].imshow(channels[k], cmap="gray")
    panels[k].set_title(f"channel {k}, (32, 32)")
for axes in panels.values():
    axes.axis("off")

# %%
# What mixes what: the Jacobians
# ------------------------------
# Each layer on one picture of two channels and 5x5 pixels; row i, column j says how much output i
# moves with input j, channel by channel.


def excited(layer):
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.35)
    return layer


layers = {
    "1x1": b.Invertible1x1(2),
    "coupling": excited(b.Coupling.build(2, lambda i, o: ConvNet(i, o, 16))),
    "periodic 3x3": excited(b.PeriodicConvolution(2, 3)),
}
x = torch.randn(1, 2, 5, 5)
figure, panels = plt.subplots(1, 3, figsize=(9, 3.2))
for axes, (name, layer) in zip(panels, layers.items(), strict=True):
    jacobian = torch.func.jacrev(lambda v, layer=layer: layer(v)[0])(x).reshape(50, 50).detach()
    limit = jacobian.abs().max()
    axes.imshow(jacobian, cmap="RdBu", vmin=-limit, vmax=limit)
    axes.axhline(24.5, color="0.6", linewidth=0.6)
    axes.axvline(24.5, color="0.6", linewidth=0.6)
    axes.set(title=name, xticks=[], yticks=[], xlabel="input", ylabel="output")
    whole, own = torch.linalg.slogdet(jacobian)[1].item(), layer(x)[1].item()
    print(f"{name:13s} log|det| by elimination {whole:8.4f}, by the layer {own:8.4f}")

# %%
# A d x d layer, and its inverse
# ------------------------------
# With borders that wrap around, the Fourier transform makes the convolution one small matrix for each
# frequency. Its determinants multiply, and the inverse divides by them: exact, for any kernel. On the
# right is the kernel that undoes the blur: it is as large as the picture, which is why one learns the
# other.

layer = b.PeriodicConvolution(1, 5)
with torch.no_grad():
    spread = torch.exp(-0.5 * (torch.arange(5) - 2.0) ** 2 / 0.7)
    layer.weight.copy_((spread[:, None] * spread / spread.sum() ** 2)[None, None])
    blurred, log_det = layer(picture)
    back, _ = layer.inverse(blurred)
    impulse = torch.zeros(1, 1, 64, 64)
    impulse[..., 32, 32] = 1
    undo = layer.inverse(impulse)[0]

figure, panels = plt.subplots(1, 4, figsize=(9, 2.6))
limit = undo.abs().max()
shown = {
    "x": picture,
    "z, convolved 5x5": blurred,
    "x from z": back,
}
for axes, (name, image) in zip(panels, shown.items(), strict=False):
    axes.imshow(image[0, 0], cmap="gray", vmin=0, vmax=1)
    axes.set_title(name)
panels[3].imshow(undo[0, 0], cmap="RdBu", vmin=-limit, vmax=limit)
panels[3].set_title("kernel of the inverse")
for axes in panels:
    axes.axis("off")
print(f"round trip: {(back - picture).abs().max():.1e}; log|det| = {float(log_det):.1f}")
