r"""
Triangular Jacobians, seen
==========================

The determinant of an n x n matrix costs :math:`n^3` operations; of a triangular one, n. Every layer of
a flow is built so that its Jacobian is triangular, up to an order of the coordinates, or a small
matrix repeated. Here are the Jacobians themselves, by automatic differentiation.
"""

import matplotlib.pyplot as plt
import torch

from innverse import bijections as b
from innverse.nets import MADE, MLP

torch.manual_seed(0)
D = 8
layers = {
    "coupling": b.Coupling.build(D, lambda i, o: MLP(i, o, width=32)),
    "autoregressive": b.Autoregressive(MADE(D, 2, 32)),
    "1x1 convolution": b.Invertible1x1(D),
    "a chain of six": b.Chain(
        *(
            layer
            for k in range(3)
            for layer in (
                b.Permute(D),
                b.Coupling.build(D, lambda i, o: MLP(i, o, width=32), swap=k % 2 == 1),
            )
        )
    ),
}
x = torch.randn(1, D)
figure, panels = plt.subplots(1, 4, figsize=(10, 2.7))
for axes, (name, layer) in zip(panels, layers.items(), strict=True):
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.5)
    jacobian = torch.func.jacrev(lambda v, layer=layer: layer(v[None])[0][0])(x[0]).detach()
    limit = jacobian.abs().max()
    axes.imshow(jacobian, cmap="RdBu", vmin=-limit, vmax=limit)
    axes.set(title=name, xticks=[], yticks=[], xlabel="$x_j$", ylabel="$z_i$")

# %%
# Their log-determinants, by elimination of the whole matrix and by the layer's own formula:

for name, layer in layers.items():
    jacobian = torch.func.jacrev(lambda v, layer=layer: layer(v[None])[0][0])(x[0])
    whole, own = torch.linalg.slogdet(jacobian)[1].item(), layer(x)[1].item()
    print(f"{name:16s} {whole:9.5f} {own:9.5f}")

# %%
# A chain of triangular layers is not triangular: it can do what no single layer can, and its
# determinant is still a sum of cheap terms.
