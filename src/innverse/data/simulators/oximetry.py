"""How much oxygen is in the tissue: a Beer-Lambert toy of a multispectral camera.

With the structure of the problem in Ardizzone et al. 2018, section 4.2 (layers, eight bands, a
normalised spectrum), but a closed formula instead of a Monte-Carlo simulation of light.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Noisy
from .priors import Uniform
from .reference import by_ensemble

# wavelengths in nm, and molar extinction of oxygenated and deoxygenated haemoglobin in
# 1/(cm M), rounded from the usual tables
_BANDS = (500.0, 530.0, 545.0, 560.0, 575.0, 585.0, 600.0, 620.0)
_OXY = (20_900.0, 40_000.0, 51_000.0, 33_000.0, 54_000.0, 34_500.0, 3_200.0, 900.0)
_DEOXY = (20_900.0, 39_000.0, 51_000.0, 53_800.0, 40_000.0, 31_600.0, 14_700.0, 6_500.0)
_LAYERS = 3
_MOLAR = 150.0 / 64_500.0  # mol/l of haemoglobin in blood


class TissueOximetry(Noisy):
    """Reflectance of three layers of tissue in eight bands, normalised to its sum.

    theta per layer: oxygen saturation (0..1), blood volume fraction (0.005..0.1), scattering
    amplitude (5..50 per cm) and thickness (0.02..0.1 cm); layer 0 is the top. Each layer absorbs
    exp(-2 mu_eff d), mu_eff = sqrt(3 mu_a (mu_a + mu_s)), and the deeper ones are seen through
    those above. x (8,) are logarithms of the normalised reflectance plus N(0, noise^2): only the
    top layers leave a trace, and absolute brightness none.
    """

    name = "tissue_oximetry"
    names = [
        f"{what}[{i}]"
        for i in range(_LAYERS)
        for what in ("saturation", "blood_volume", "scattering", "thickness")
    ]
    x_shape = (8,)

    def __init__(self, noise: float = 0.01):
        self.noise = float(noise)
        low, high = [0.0, 0.005, 5.0, 0.02], [1.0, 0.1, 50.0, 0.1]
        self.prior = Uniform(low * _LAYERS, high * _LAYERS)

    def forward(self, theta: Tensor) -> Tensor:
        """Log-reflectance in the bands without noise, its exponentials summing to 1, (B, 8)."""
        saturation, blood, scattering, depth = (
            t.unsqueeze(2) for t in self._theta(theta).view(-1, _LAYERS, 4).unbind(2)
        )
        bands, oxy, deoxy = (theta.new_tensor(t) for t in (_BANDS, _OXY, _DEOXY))
        extinction = saturation * oxy + (1 - saturation) * deoxy
        mu_a = 2.303 * blood * _MOLAR * extinction  # 1/cm
        mu_s = scattering * (bands / 500.0) ** -1.3
        mu_eff = (3 * mu_a * (mu_a + mu_s)).sqrt()
        through = (-2 * mu_eff * depth).exp()  # (B, layers, bands), down and up again
        albedo = mu_s / (mu_a + mu_s)
        above = torch.cat((torch.ones_like(through[:, :1]), through[:, :-1].cumprod(1)), 1)
        reflectance = (above * albedo * (1 - through)).sum(1)
        return reflectance.log() - reflectance.sum(1, keepdim=True).log()

    def reference_posterior(self, x, n, generator=None):
        return by_ensemble(self, x, n, generator)
