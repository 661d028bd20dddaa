r"""
An operator of your own
=======================

A camera that moves along a circle while the shutter is open: a class with ``A`` and ``A_adjoint``, that
is all. Or leave the adjoint away, and autograd makes it.
"""

import matplotlib.pyplot as plt
import torch
from skimage.data import coins

import innverse
from innverse.metrics import psnr


class Shaken:
    """The mean of the picture at places along an arc; borders wrap around."""

    places = [(round(4 * torch.tensor(a).sin().item()), round(4 * torch.tensor(a).cos().item()) - 4)
              for a in torch.linspace(0, 2.2, 12).tolist()]  # fmt: skip

    def A(self, x):
        return sum(x.roll(place, (-2, -1)) for place in self.places) / len(self.places)

    def A_adjoint(self, y):
        return sum(y.roll((-a, -b), (-2, -1)) for a, b in self.places) / len(self.places)


physics = Shaken()
x = torch.tensor(coins()[10:138, 60:188] / 255.0).float()[None, None]
innverse.physics.check_adjoint(innverse.physics.as_physics(physics), x)
y = physics.A(x) + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))

prior = innverse.load("natural-gray")
found = innverse.solve(y, physics, prior, noise=0.01, steps=25)
plain = innverse.solve(y, physics, method="tv", noise=0.01)
print(found.reason)

figure, panels = plt.subplots(1, 4, figsize=(10, 2.9))
shown = {"original": x, "shaken": y, "total variation": plain.x, "the flow": found.x}
for axes, (name, image) in zip(panels, shown.items(), strict=True):
    axes.imshow(image[0, 0], cmap="gray", vmin=0, vmax=1)
    quality = "" if name == "original" else f", {float(psnr(image, x)):.1f} dB"
    axes.set_title(name + quality)
    axes.axis("off")

# %%
# Wrong operators are caught
# --------------------------
# The commonest mistake is an adjoint that is not one. ``solve`` compares <A x, y> with <x, A^T y>
# before it starts.


class Wrong(Shaken):
    def A_adjoint(self, y):
        return self.A(y)


try:
    innverse.solve(y, Wrong(), prior, noise=0.01)
except innverse.errors.InnverseError as error:
    print(error)

# %%
# Without an adjoint
# ------------------

again = innverse.solve(y, physics.A, prior, noise=0.01, steps=25, image_shape=(1, 128, 128))
print(f"largest difference to the solution above: {(again.x - found.x).abs().max():.1e}")
