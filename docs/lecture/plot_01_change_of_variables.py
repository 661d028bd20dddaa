r"""
Change of variables in one dimension
====================================

Draw :math:`z` from a standard normal and let :math:`x = G(z)`. Where :math:`G` is steep, neighbours
are driven apart and the density falls; where it is flat, they crowd and it rises:

.. math:: p(x) = p_Z\big(f(x)\big)\,\left|\frac{df}{dx}(x)\right|, \qquad f = G^{-1}.

Nothing is approximate in that formula. A histogram of draws must follow it.
"""

# %%
# A map of one variable
# ---------------------
# A spline of eight pieces, bent at random, and its inverse in closed form.

import matplotlib.pyplot as plt
import torch

from innverse.bijections import Chain, Diagonal, RationalQuadraticSpline
from innverse.flows import Flow

torch.manual_seed(2)
layer = Diagonal(1, RationalQuadraticSpline(bins=8, bound=4))
torch.nn.init.normal_(layer.p, std=1.2)
flow = Flow(Chain(layer), shape=(1,))

with torch.no_grad():
    z = torch.linspace(-4.5, 4.5, 20_000)[:, None]
    x = flow.decode(z)
    assert torch.allclose(flow.encode(x), z, atol=1e-3)

# %%
# The histogram and the formula
# -----------------------------
# ``log_prob`` adds the two terms: the normal density of the latent, and the logarithm of the slope.

draws = flow.sample(200_000)
with torch.no_grad():
    density = flow.log_prob(x).exp()

figure, (left, right) = plt.subplots(1, 2)
left.plot(z, x)
left.set(xlabel="latent z", ylabel="x = G(z)", title="the map")
right.hist(draws[:, 0].numpy(), 150, density=True, alpha=0.4, label="200,000 draws")
right.plot(x, density, label=r"$p_Z(f(x))\,|f'(x)|$")
right.set(xlabel="x", ylabel="density", title="the density, twice")
right.legend()

# %%
# It integrates to one, as a density must.

print(f"integral of p: {torch.trapezoid(density, x[:, 0]):.4f}")
