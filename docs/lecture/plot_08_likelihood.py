r"""
Likelihood in training
======================

Of a flow one sees how good it is: bits per number on digits that it never saw, exact at every moment,
comparable with any other density of the same pictures.
"""

# %%
# Digits of 64 numbers with 17 grey levels. Uniform noise within each level makes a density of them:
# its bits bound those of the grey levels from above (Theis et al. 2016), so that even a table of
# frequencies can be compared with it.

import math

import matplotlib.pyplot as plt
import torch

from innverse import flows
from innverse.data import open_images

torch.manual_seed(0)
grey = (open_images("digits").stack() * (16 / 255)).round().long()  # 0 .. 16
x = (grey + torch.rand(grey.shape)) / 17
seen, unseen = x[:1500], x[1500:]


def bits(nats):
    """Per number, of nats per digit."""
    return math.log2(17) + torch.as_tensor(nats) / (64 * math.log(2))


counts = torch.nn.functional.one_hot(grey[:1500].flatten(1), 17).sum(0) + 0.1  # (64, 17)
table = (counts / counts.sum(1, keepdim=True)).log2().T
independent = -table.gather(0, grey[1500:].flatten(1)).mean()

rows = seen.flatten(1)
normal = torch.distributions.MultivariateNormal(rows.mean(0), rows.T.cov() + 1e-5 * torch.eye(64))
gaussian = bits(-normal.log_prob(unseen.flatten(1)).mean())

# %%
# RealNVP and Glow, small ones, are trained by maximum likelihood. Both begin with the table of grey
# levels of the whole picture (``gaussianize``); couplings learn the rest.

architectures = {
    "RealNVP": flows.build("realnvp", (1, 8, 8), levels=2, hidden=16, blocks=1, gaussianize=17),
    "Glow": flows.build("glow", (1, 8, 8), levels=2, steps=3, hidden=32, gaussianize=17),
}
figure, axes = plt.subplots()
for color, (name, flow) in zip(("C1", "C0"), architectures.items(), strict=True):
    history = flow.fit(seen, held_out=unseen, max_epochs=7, progress=False)
    epochs = range(1, len(history.held_out) + 1)
    axes.plot(epochs, bits(history.training), ":", color=color, label=f"{name}, in training")
    axes.plot(epochs, bits(history.held_out), color=color, label=f"{name}, digits never seen")
    print(f"{name:8s} {float(bits(history.held_out[-1])):.2f} bits per number")
axes.axhline(float(gaussian), color="C2", linestyle="--", label="one Gaussian")
axes.axhline(float(independent), color="C3", linestyle="--", label="each pixel by itself")
axes.set(xlabel="epoch", ylabel="bits per number", title="negative log-likelihood")
axes.legend(loc="center right")
print(f"pixels by themselves {independent:.2f}, one Gaussian {gaussian:.2f}")

# %%
# And it is surprised by what it has not seen: digits upside down, and pixels in another order.

sets = {
    "digits never seen": unseen,
    "upside down": unseen.flip(-2),
    "pixels shuffled": unseen.flatten(1)[:, torch.randperm(64)].view(-1, 1, 8, 8),
}
figure, axes = plt.subplots()
with torch.no_grad():
    for name, images in sets.items():
        found = bits(-flow.log_prob(images)).clamp(max=9)
        axes.hist(found.numpy(), torch.linspace(1, 9, 60).numpy(), alpha=0.6, label=name)
axes.set(xlabel="bits per number (above 9: at 9)", ylabel="digits", title="how surprised it is")
axes.legend()
