r"""
Change of variables in the plane
================================

In more dimensions the slope becomes the Jacobian determinant, the factor by which a map changes
areas:

.. math:: \log p(x) = \log N\big(f(x); 0, I\big) + \log\left|\det\frac{\partial f}{\partial x}\right|.
"""

# %%
# A grid, deformed
# ----------------
# Two affine couplings bend the plane. Cells that grow get a lower density, since the same
# probability is spread over a larger area.

import matplotlib.pyplot as plt
import torch

from innverse import flows

torch.manual_seed(0)
flow = flows.build("realnvp", (2,), layers=4, width=32, standardize=False)
for p in flow.parameters():
    torch.nn.init.normal_(p, std=0.22)
flow.double()

lines = torch.linspace(-2.5, 2.5, 21, dtype=torch.float64)
grid = torch.cartesian_prod(lines, lines)
with torch.no_grad():
    bent = flow.decode(grid).view(21, 21, 2)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4))
square = grid.view(21, 21, 2)
for axes, nodes, title in ((left, square, "latents z"), (right, bent, "x = G(z)")):
    axes.plot(nodes[..., 0], nodes[..., 1], color="0.4", linewidth=0.7)
    axes.plot(nodes[..., 0].T, nodes[..., 1].T, color="0.4", linewidth=0.7)
    axes.set(title=title, aspect="equal", xticks=[], yticks=[])

# %%
# Areas, measured
# ---------------
# The determinant is what a surveyor would find: the area of each small cell, by the shoelace
# formula, against the model's :math:`|\det|` at its middle.

fine = torch.linspace(-2, 2, 401, dtype=torch.float64)
nodes = torch.cartesian_prod(fine, fine)
with torch.no_grad():
    moved = flow.decode(nodes).view(401, 401, 2)
    a, b, c, d = moved[:-1, :-1], moved[1:, :-1], moved[1:, 1:], moved[:-1, 1:]

    def cross(u, v):
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    surveyed = 0.5 * (cross(c - a, d - b)).abs() / (fine[1] - fine[0]) ** 2
    middle = (nodes.view(401, 401, 2)[:-1, :-1] + 0.5 * (fine[1] - fine[0])).reshape(-1, 2)
    log_det = flow.bijection.inverse(middle)[1].view(400, 400)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6))
shown = left.imshow(log_det.T, origin="lower", extent=(-2, 2, -2, 2))
left.set(title="log |det| of the model", xlabel="$z_1$", ylabel="$z_2$")
figure.colorbar(shown, ax=left)
right.scatter(surveyed.log().flatten()[::97], log_det.flatten()[::97], s=3)
right.axline((0, 0), slope=1, color="0.5", linewidth=0.8)
right.set(xlabel="log area, surveyed", ylabel="log |det|", title="the same numbers")

difference = (surveyed.log() - log_det).abs()
print(f"differences: median {difference.median():.1e}, largest {difference.max():.1e}")
