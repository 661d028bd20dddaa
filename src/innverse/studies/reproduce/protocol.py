"""What Asim et al. 2020 (arXiv 1905.11672) measured, as one table: experiments, methods, scales.

A method is a call of `innverse.solve`; an experiment crosses settings of a problem, sets of pictures
and methods. Weights, noise levels and widths that have a ``grid`` are chosen for every setting on
held-out training faces, by ``benchmarks/tune_asim2020.py``, which writes ``tuned.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

_TUNED = Path(__file__).with_name("tuned.json")

# role: name of the shipped model
PRIORS = {"flow": "faces64", "gan": "faces64-gan", "vae": "faces64-vae"}


@dataclass(frozen=True)
class Method:
    """``solve(y, physics, prior, method, **options)``.

    Attributes:
        label: as on the page.
        role: which of `PRIORS` it needs, or None.
        grid: the options to choose among; the first is used where nothing was tuned.
    """

    label: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    role: str | None = None
    grid: tuple[Mapping[str, Any], ...] = ({},)


@dataclass(frozen=True)
class Experiment:
    """``methods`` on ``settings`` of a problem of `problems.FAMILIES`, for pictures of ``sets``."""

    title: str
    family: str
    settings: tuple[str, ...]
    sets: tuple[str, ...]
    methods: Mapping[str, Method]


def _grid(option: str, *values: Any) -> tuple[Mapping[str, Any], ...]:
    return tuple({option: value} for value in values)


_SEARCH = {"start": "random", "restarts": 3, "optimizer": "adam", "steps": 500, "lr": 0.1}
_TUNE = {"tune_steps": 300}

METHODS: dict[str, Method] = {
    "flow": Method(
        "flow, L-BFGS", "latent", {"steps": 200}, "flow", _grid("sigma", 0.02, 0.01, 0.04, 0.08)
    ),
    "flow_map": Method(
        "flow, MAP",
        "map",
        {"start": "latent", "steps": 200},
        "flow",
        _grid("sigma", 0.01, 0.02, 0.04),
    ),
    "flow_adam": Method(
        "flow, Adam",
        "latent",
        {"optimizer": "adam", "steps": 500, "sigma": 0.02},
        "flow",
        _grid("lr", 0.05, 0.02, 0.1),
    ),
    "gan": Method("GAN", "latent", _SEARCH, "gan"),
    "gan_adaptive": Method(
        "GAN, adapted",
        "adaptive",
        _SEARCH | _TUNE,
        "gan",
        _grid("tune_lr", 3e-4, 1e-4, 1e-3),
    ),
    "vae": Method("VAE", "latent", _SEARCH, "vae"),
    "lasso_dct": Method(
        "Lasso, cosines",
        "lasso",
        {"basis": "dct"},
        None,
        _grid("lam", 1e-2, 3e-3, 3e-2, 0.1, 0.3, 1.0, 3.0),
    ),
    "lasso_wavelet": Method(
        "Lasso, wavelets",
        "lasso",
        {"basis": "db2"},
        None,
        _grid("lam", 1e-2, 3e-3, 3e-2, 0.1, 0.3, 1.0, 3.0),
    ),
    "tv": Method(
        "total variation", "tv", {}, None, _grid("lam", 3e-3, 1e-5, 1e-4, 3e-4, 1e-3, 1e-2, 3e-2)
    ),
    "deep_decoder": Method(
        "deep decoder", "deep_decoder", {"steps": 2000}, None, _grid("channels", 24, 12, 48, 96)
    ),
}

# Noise that is not small: gamma matters (the paper's own search), and the flow's own denoiser knows
# the posterior mean.
_DENOISERS = {
    "flow": Method("flow, posterior mean", "pnp", {"views": 16}, "flow"),
    "flow_latent": Method(
        "flow, latent",
        "latent",
        {"steps": 100, "penalty": "square"},
        "flow",
        tuple({"sigma": s, "gamma": g} for s in (0.02, 0.05) for g in (0.0, 1e-3, 3e-3, 1e-2)),
    ),
    **{
        name: replace(METHODS[name], grid=_grid(option, *values))
        for name, option, values in (
            ("tv", "lam", (0.08, 0.01, 0.02, 0.04, 0.15, 0.25, 0.4)),
            ("lasso_wavelet", "lam", (0.1, 0.01, 0.025, 0.05, 0.2, 0.4)),
            ("lasso_dct", "lam", (0.1, 0.01, 0.025, 0.05, 0.2, 0.4)),
            ("deep_decoder", "channels", (12, 24, 6)),
        )
    },
    "gan": METHODS["gan"],
    "vae": METHODS["vae"],
}

_RESTORERS = {
    "flow": METHODS["flow"],
    "flow_pnp": Method("flow, plug and play", "pnp", {}, "flow"),
    **{name: METHODS[name] for name in METHODS if name not in ("flow", "flow_adam")},
}

_STARTS = ("zero", "random", "sphere", "pseudo_inverse", "null_space")
_GAMMAS = (0.0, 1e-4, 1e-2, 1.0)
_START_AND_GAMMA = {
    f"{start}, {gamma:g}": Method(
        f"{start}, gamma {gamma:g}",
        "latent",
        {"start": start, "gamma": gamma, "sigma": 0.02, "steps": 150},
        "flow",
    )
    for start in _STARTS
    for gamma in _GAMMAS
}
_RADII = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
_Z0_NORM = {
    f"{radius:g}": Method(
        f"||z0|| = {radius:g} sqrt(n)",
        "latent",
        {"start": "sphere", "radius": radius, "sigma": 0.02, "steps": 150},
        "flow",
    )
    for radius in _RADII
}
_EVALUATIONS = {
    f"{name}, {steps}": replace(METHODS[name], options={**METHODS[name].options, "steps": steps})
    for name, budgets in {
        "flow": (10, 20, 40, 80, 160, 320, 640),
        "flow_map": (20, 40, 80, 160, 320),
        "flow_adam": (20, 40, 80, 160, 320, 640),
    }.items()
    for steps in budgets
}

_FACES = ("celebahq", "ffhq")
_SHIFTED = ("birds", "flowers", "odd", "photographs", "digits", "inverted", "rotated")
_ALL = (*_FACES, *_SHIFTED, "images")

EXPERIMENTS: dict[str, Experiment] = {
    "compressed_sensing": Experiment(
        "Compressed sensing",
        "compressed_sensing",
        ("0.2", "0.081", "0.041", "0.41", "0.02", "0.008", "1"),
        _ALL,
        METHODS,
    ),
    "denoising": Experiment(
        "Denoising", "denoising", ("0.1", "0.05", "0.2", "0.01"), _ALL, _DENOISERS
    ),
    "inpainting": Experiment(
        "Inpainting", "inpainting", ("centre", "random", "scribbles"), _ALL, _RESTORERS
    ),
    "blur": Experiment("Deblurring", "blur", ("1",), (*_FACES, "images"), _RESTORERS),
    "superresolution": Experiment(
        "Super-resolution", "superresolution", ("x2", "x4"), (*_FACES, "images"), _RESTORERS
    ),
    "fourier": Experiment(
        "Subsampled Fourier", "fourier", ("x4",), (*_FACES, "images"), _RESTORERS
    ),
    "start_and_gamma": Experiment(
        "Start and gamma, compressed sensing",
        "compressed_sensing",
        ("0.41",),
        ("celebahq", "images"),
        _START_AND_GAMMA,
    ),
    "start_and_gamma_denoising": Experiment(
        "Start and gamma, denoising",
        "denoising",
        ("0.1",),
        ("celebahq", "images"),
        _START_AND_GAMMA,
    ),
    "z0_norm": Experiment(
        "The length of z0", "compressed_sensing", ("0.2",), ("celebahq", "images"), _Z0_NORM
    ),
    "evaluations": Experiment(
        "PSNR against evaluations",
        "compressed_sensing",
        ("0.2",),
        ("celebahq", "images"),
        _EVALUATIONS,
    ),
}


@dataclass(frozen=True)
class Scale:
    """How much of the table is run.

    Attributes:
        images: of each set, at most.
        batch: pictures solved side by side, and in one cell.
        effort: {method: factor on its steps}; 1 for those that are not named.
        settings: experiment: how many of its settings; an experiment that is not named is left out.
        sets: the sets that are used.
        leave_out: methods that are not run.
    """

    images: int
    batch: int
    effort: Mapping[str, float]
    settings: Mapping[str, int]
    sets: tuple[str, ...]
    leave_out: tuple[str, ...] = ()


SCALES = {
    "quick": Scale(
        images=2,
        batch=2,
        effort={
            "flow": 0.6,
            "flow_map": 0.6,
            "flow_latent": 0.5,
            "flow_adam": 0.3,
            "gan": 0.15,
            "vae": 0.15,
            "deep_decoder": 0.25,
        },
        settings={"compressed_sensing": 2, "denoising": 1, "inpainting": 1},
        sets=(*_FACES, "birds", "flowers", "images"),
        leave_out=("gan_adaptive",),
    ),
    "usual": Scale(
        images=8,
        batch=8,
        effort={},
        settings={
            "compressed_sensing": 4,
            "denoising": 3,
            "inpainting": 3,
            "start_and_gamma": 1,
            "z0_norm": 1,
            "evaluations": 1,
        },
        sets=_ALL,
    ),
    "full": Scale(
        images=100,
        batch=16,
        effort={},
        settings={name: len(e.settings) for name, e in EXPERIMENTS.items()},
        sets=_ALL,
    ),
}


@cache
def tuned() -> dict[str, Any]:
    """What ``benchmarks/tune_asim2020.py`` found: {experiment: {setting: {method: options}}}."""
    return json.loads(_TUNED.read_text("utf-8"))["chosen"] if _TUNED.is_file() else {}


def options(
    experiment: str, setting: str, name: str, method: Method, effort: Mapping[str, float]
) -> dict:
    """The options of a method in one setting, with the tuned ones among them."""
    base = name.split(",")[0]  # "flow, 80" of an ablation is tuned as "flow" is
    factor = effort.get(name, 1.0)
    family = EXPERIMENTS[experiment].family
    chosen = tuned().get(family, {}).get(setting, {}).get(base, method.grid[0])
    options = {**method.options, **(chosen if len(method.grid) > 1 else {})}
    for key in ("steps", "tune_steps"):
        if key in options:
            options[key] = max(1, round(factor * options[key]))
    return options
