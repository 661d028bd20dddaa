"""Is a prior good enough? Its density and denoising of held-out pictures, beside what needs none."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import as_unit
from ..metrics import psnr
from ..physics import Denoising
from ..progress import Report
from ..report import Table
from ..solvers import solve
from ..solvers.baselines import default_lam
from .config import TrainingConfig
from .losses import to_bits
from .sources import TrainingImages

CROPS, SIDE, VIEWS = 8, 128, 4
CLEAR = 0.2  # dB that count as better
_LOUD = 0.2  # highest noise level of the three, on the scale of 0 to 1
_BY_HEART = 0.15  # bits/dim between held-out and training crops
Denoiser = Callable[[Tensor, float], Tensor]
NAMES = {"tv": "total variation", "wavelets": "wavelets", "nl_means": "non-local means"}


def judge(
    model, config: TrainingConfig, data: TrainingImages, progress: Report | None = None
) -> dict[str, Any]:
    """What a noise-conditional prior of pictures reaches on held-out crops, as JSON knows it.

    ``bits_per_dim`` on the scale of 8 bits of the pictures with the model's lowest noise, held out and
    of training; ``denoising`` at three levels, in dB on the model's range, of the model (mean over 4
    views), of total variation and, where scikit-image is installed, of wavelets (BayesShrink, Chang et
    al. 2000) and non-local means (Buades et al. 2005), both tuned on training crops; ``good`` and
    ``verdict`` in words.
    """
    side = min(SIDE, *(min(data.train.array(i).shape[-2:]) for i in range(len(data.train))))
    wide = data.fitted_to(
        config.model_copy(update={"data": config.data.model_copy(update={"crop": side})})
    )
    unseen = as_unit(wide.held_out(CROPS)[0])
    seen = as_unit(torch.cat([wide.batch(10**6 + k) for k in range(8)])[: len(unseen)])
    low, high = model.noise_range
    levels = np.geomspace(min(2 * low, high), min(max(_LOUD, 2 * low), high), 3).tolist()
    rows: list[dict[str, Any]] = []
    for k, sigma in enumerate(levels):
        if progress is not None:
            progress(k, len(levels), f"denoising, level {k + 1} of {len(levels)}")
        rows.append(_denoised(model, sigma, seen, unseen, config))
    bits = {name: _bits(model, x, low) for name, x in (("held_out", unseen), ("training", seen))}
    found = {
        "crops": len(unseen),
        "side": side,
        "noise_of_bits": low,
        "bits_per_dim": bits,
        "denoising": rows,
    }
    return found | _verdict(found)


def can_be_judged(model, data: TrainingImages) -> bool:
    """Whether this is a prior at all noise levels, with pictures held out."""
    plain = getattr(model, "noise_range", None) and not getattr(model, "measurement", None)
    return bool(plain) and data.n_held_out > 0


def text(found: dict[str, Any]) -> str:
    """The report as lines for a terminal or a card."""
    unit = found["denoising"][0]["units"]
    others = [name for name in NAMES if name in found["denoising"][0]]
    table = Table(
        [f"noise {unit}".strip(), "noisy", "this prior", *(NAMES[n] for n in others), "gain"]
    )
    for row in found["denoising"]:
        table.add(
            f"{row['noise']:.3g}", row["noisy"], row["prior"], *(row[n] for n in others),
            f"{row['gain']:+.2f} ± {row['std_err']:.2f}",
        )  # fmt: skip
    bits = found["bits_per_dim"]
    density = (
        f"Density: {bits['held_out']:.3f} bits/dim held out, {bits['training']:.3f} of training "
        f"(8-bit scale, pictures with noise {found['noise_of_bits']:g} of the range)."
    )
    head = f"Denoising of {found['crops']} held-out crops {found['side']}x{found['side']}, dB:"
    return "\n\n".join([found["verdict"], head, table.markdown(), density])


def _denoised(
    model, sigma: float, seen: Tensor, unseen: Tensor, config: TrainingConfig
) -> dict[str, Any]:
    """PSNR of each way on the held-out crops, the others tuned on those of training."""
    device = next(model.parameters()).device
    noisy_seen, noisy = (_with_noise(x, sigma, k) for k, x in enumerate((seen, unseen)))
    own = psnr(model.denoise(noisy.to(device), sigma, views=VIEWS).cpu(), unseen)
    found: dict[str, Any] = {
        "sigma": sigma,
        "noise": sigma * _span(config),
        "units": config.data.units or ("" if config.data.range else "(of 1)"),
        "noisy": float(psnr(noisy, unseen).mean()),
        "prior": float(own.mean()),
    }
    each = {}
    for name, ways in _others().items():
        best = max(ways, key=lambda way: float(psnr(way(noisy_seen, sigma), seen).mean()))
        each[name] = psnr(best(noisy, sigma), unseen)
        found[name] = float(each[name].mean())
    strongest = max(each, key=lambda name: found[name])
    gain = own - each[strongest]
    error = float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else math.nan
    return found | {"best": strongest, "gain": float(gain.mean()), "std_err": error}


def _others() -> dict[str, list[Denoiser]]:
    """Denoisers that learn nothing, each with a few strengths to choose from."""
    found: dict[str, list[Denoiser]] = {"tv": [_tv(f) for f in (0.5, 0.75, 1.0, 1.4, 2.0)]}
    try:
        from skimage.restoration import denoise_nl_means, denoise_wavelet
    except ImportError:
        return found

    def wavelets(y: Tensor, sigma: float) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _each(y, lambda x: denoise_wavelet(x, sigma, channel_axis=-1))

    def non_local(strength: float) -> Denoiser:
        def means(y: Tensor, sigma: float) -> Tensor:
            how = {"patch_size": 5, "patch_distance": 6, "h": strength * sigma, "sigma": sigma}
            return _each(y, lambda x: denoise_nl_means(x, channel_axis=-1, **how))

        return means

    return found | {"wavelets": [wavelets], "nl_means": [non_local(s) for s in (0.5, 0.7, 0.9)]}


def _tv(factor: float) -> Denoiser:
    def denoise(y: Tensor, sigma: float) -> Tensor:
        lam = factor * float(default_lam(sigma))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return solve(y, Denoising(noise=sigma), method="tv", lam=lam).x

    return denoise


def _each(y: Tensor, way: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    made = [way(np.moveaxis(x.numpy(), 0, -1)).reshape(*x.shape[1:], len(x)) for x in y]
    return torch.from_numpy(np.moveaxis(np.stack(made), -1, 1).astype(np.float32))


def _with_noise(x: Tensor, sigma: float, seed: int) -> Tensor:
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def _bits(model, x: Tensor, sigma: float) -> float:
    """-log2 p of pictures with noise, per dimension on the scale of 8 bits."""
    device = next(model.parameters()).device
    c = torch.full((len(x), 1), sigma, device=device)
    nats = -model.log_prob(_with_noise(x, sigma, 2).to(device), c).mean() / x[0].numel()
    return to_bits(float(nats))


def _span(config: TrainingConfig) -> float:
    low, high = config.data.range or (0.0, 1.0)
    return high - low


def _verdict(found: dict[str, Any]) -> dict[str, Any]:
    """``good``, and one sentence."""
    rows = found["denoising"]
    gains = [row["gain"] for row in rows]
    worst = min(rows, key=lambda row: row["gain"])
    rivals = [NAMES[n] for n in NAMES if n in rows[0]]
    them = " and ".join([", ".join(rivals[:-1]), rivals[-1]] if len(rivals) > 1 else rivals)
    by_heart = found["bits_per_dim"]["held_out"] - found["bits_per_dim"]["training"] > _BY_HEART
    advice = "more pictures" if by_heart else "more minutes"
    good = min(gains) >= CLEAR
    if good:
        words = (
            f"Good enough: it denoises held-out pictures better than {them}, by {min(gains):.1f} to "
            f"{max(gains):.1f} dB"
        )
    elif max(gains) >= CLEAR:
        words = (
            f"Of use where it is ahead, but not good enough yet: at noise {worst['noise']:.3g} "
            f"{worst['units']} it is {worst['gain']:+.1f} dB against {NAMES[worst['best']]}; give it "
            f"{advice}"
        )
    else:
        words = (
            f"Not good enough: {them} denoise held-out pictures as well or better, without learning; "
            f"give it {advice}"
        )
    if by_heart and good:
        words += ", though it knows its training pictures better than others: more pictures help"
    return {"good": good, "verdict": " ".join(words.split()) + "."}
