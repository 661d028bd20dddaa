"""The sentences of the theory, each with its numbers and whether they bear it out here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .run import Findings

NONE = "none"  # what a model does not have, as opposed to what was not measured


@dataclass(frozen=True)
class Row:
    """One measure: the key of its numbers in `Findings`, and how they are written."""

    measure: str
    key: str
    form: str = "{:.2f}"
    missing: str = "–"

    def text(self, value: Any) -> str:
        return self.missing if value is None else self.form.format(value)


@dataclass(frozen=True)
class Claim:
    """A sentence of the theory.

    Attributes:
        kind: "strength" or "limitation" of invertible networks, or "samples", which is neither.
        title: the sentence.
        rows: its numbers.
        verdict: what they say here, in words.
    """

    key: str
    kind: str
    title: str
    rows: tuple[Row, ...]
    verdict: Callable[[Findings], str]


def claims(found: Findings) -> list[Claim]:
    """All claims, with the rows that make sense for these models."""
    sigma = found.contestants[0].sigma
    noised = ()
    if sigma is not None:
        what = f"bits/dim, test images + N(0, {sigma:g}^2)"
        noised = (
            Row(what, "noised_bits_per_dim", "{:.3f}", NONE),
            Row("  standard error", "noised_bits_per_dim_error", "{:.3f}"),
        )
    t = f"{found.settings.temperature:g}"
    at_one = () if t == "1" else (Row("Fréchet distance, temperature 1", "frechet_at_1"),)
    size = found.settings.memory_batch
    return [
        Claim(
            "likelihood", "strength", "The likelihood is exact",
            (
                Row("bits/dim, 8-bit test images, dequantised", "bits_per_dim", "{:.3f}", NONE),
                Row("  standard error", "bits_per_dim_error", "{:.3f}"),
                *noised,
                Row("  the same from one draw (ELBO)", "elbo_bits_per_dim", "{:.3f}"),
            ),
            _likelihood,
        ),
        Claim(
            "latent", "strength", "The latent of an image is exact",
            (
                Row("image -> latent -> image, PSNR in dB", "round_trip_psnr", "{:.1f}", NONE),
                Row("  largest error of a pixel", "round_trip_error", "{:.1e}", NONE),
                Row("latent -> image -> latent, relative error", "latent_error", "{:.1e}", NONE),
            ),
            _latent,
        ),
        Claim(
            "range", "strength", "Every image is in the range",
            (
                Row("closest image to test images, PSNR in dB", "test_psnr", "{:.1f}"),
                Row("  the worst of them", "test_worst_psnr", "{:.1f}"),
                Row("closest image to other images, PSNR in dB", "other_psnr", "{:.1f}"),
                Row("  the worst of them", "other_worst_psnr", "{:.1f}"),
                Row("  largest error of a pixel", "other_worst_error", "{:.1e}"),
            ),
            _range,
        ),
        Claim(
            "memory", "strength", "Memory in back-propagation does not grow with depth",
            (
                Row(f"MB, training step of {size} images", "step_bytes", "{:.1f}"),
                Row("  with reversible layers", "step_bytes_reversible", "{:.1f}"),
            ),
            _memory,
        ),
        Claim(
            "cost", "limitation", "It costs more",
            (
                Row("parameters, thousands", "parameters", "{:.0f}"),
                Row("training, minutes", "training_minutes", "{:.1f}"),
                Row("training, steps", "training_steps", "{:.0f}"),
                Row("images of a step", "training_batch_size", "{:.0f}"),
                Row("training step, processor ms an image", "ms_step"),
                Row("sample, processor ms an image", "ms_sample"),
                Row("latent, processor ms an image", "ms_encode", "{:.2f}", NONE),
            ),
            _cost,
        ),
        Claim(
            "code", "limitation", "There is no low-dimensional code",
            (
                Row("numbers in a latent", "latents", "{:d}"),
                Row("PSNR in dB of what the code gives", "round_trip_psnr", "{:.1f}", NONE),
                Row("  of its largest coordinates alone", "kept_psnr", "{:.1f}"),
                Row("  how many those are", "kept", "{:d}"),
            ),
            _code,
        ),
        Claim(
            "samples", "samples", "Samples",
            (Row(f"Fréchet distance, temperature {t}", f"frechet_at_{t}"), *at_one),
            _samples,
        ),
    ]  # fmt: skip


_ROUNDING = 1e-3  # of pixels in [0, 1], after two passes through a deep network

_SCALE = {"parameters": 1e-3, "step_bytes": 1e-6, "step_bytes_reversible": 1e-6}


def value(found: Findings, label: str, row: Row) -> Any:
    """A number in the unit of its row."""
    number = found.get(label, row.key)
    return number * _SCALE[row.key] if row.key in _SCALE and number is not None else number


def table_of(found: Findings) -> list[dict[str, Any]]:
    """All rows of all claims with their numbers, as other tools read them."""
    return [
        {"claim": claim.key, "key": row.key, "measure": row.measure.strip()}
        | {label: value(found, label, row) for label in found.labels}
        for claim in claims(found)
        for row in claim.rows
    ]


# ---- verdicts -----------------------------------------------------------------------------------


def _likelihood(found: Findings) -> str:
    inn, vae = found.get("INN", "bits_per_dim"), found.get("VAE", "bits_per_dim")
    text = f"The INN gives {inn:.3f} bits/dim, a number and not a bound."
    if vae is not None:
        gain = found.get("VAE", "elbo_bits_per_dim") - vae
        text += (
            f" Of the VAE only a bound is known, {vae:.3f}; {found.settings.importance} draws in place "
            f"of one improved it by {gain:.3f}, and where it ends nobody knows."
        )
        if vae < inn:
            text += " Here the VAE's bound is nevertheless the better number."
    if "GAN" in found.labels:
        text += " The GAN has no likelihood, and no number to give."
    return text


def _latent(found: Findings) -> str:
    error, latent = found.get("INN", "round_trip_error"), found.get("INN", "latent_error")
    text = (
        f"One pass of the INN gives the latent, one pass back the image, with an error of {error:.0e} "
        f"at worst: "
        + ("the rounding of 32-bit numbers." if error < _ROUNDING else "more than rounding.")
        + f" Latents come back to {latent:.0e}."
    )
    if "VAE" in found.labels:
        text += (
            f" The VAE's encoder approximates: {found.get('VAE', 'round_trip_psnr'):.1f} dB, and "
            f"latents come back with {100 * found.get('VAE', 'latent_error'):.0f} % error."
        )
    if "GAN" in found.labels:
        text += " The GAN has no encoder; its latents must be searched for."
    return text


def _range(found: Findings) -> str:
    s = found.settings
    text = (
        f"The INN represents test images and {found.data.other_name} alike, to "
        f"{found.get('INN', 'other_worst_error'):.0e} at worst."
    )
    rest = [label for label in found.labels if label != "INN"]
    if rest:
        pairs = ", ".join(
            f"{label} {found.get(label, 'test_psnr'):.1f} and {found.get(label, 'other_psnr'):.1f}"
            for label in rest
        )
        text += (
            f" The best that {s.steps} steps of L-BFGS from {s.restarts} starts (for a VAE also from "
            f"its encoder) found in the range of the others, for test images and for those others, "
            f"in dB: {pairs}. What is missing, as far as the search found the best, no "
            "measurement can bring back."
        )
    return text


def _memory(found: Findings) -> str:
    if found.depth is None:
        return "The INN has no option `steps`, so its depth was not varied."
    depths = sorted(found.depth["store"])
    growth = {mode: by[depths[-1]] / by[depths[0]] for mode, by in found.depth.items()}
    holds = growth["reversible"] < 1.25
    return (
        f"From {depths[0]} to {depths[-1]} steps a level the memory of a gradient becomes "
        f"{growth['store']:.1f} times what it was if everything is stored, and "
        f"{growth['reversible']:.2f} times if layers are inverted on the way back"
        + (": it is flat." if holds else ": it is not flat here.")
    )


def _cost(found: Findings) -> str:
    def ratio(key: str) -> str:
        inn = found.get("INN", key)
        rest = [(label, found.get(label, key)) for label in found.labels if label != "INN"]
        return ", ".join(f"{inn / n:.1f} times that of the {label}" for label, n in rest if n)

    text = f"A sample takes {found.get('INN', 'ms_sample'):.1f} ms"
    text += f" ({ratio('ms_sample')})" if ratio("ms_sample") else ""
    text += f", a training step {found.get('INN', 'ms_step'):.1f} ms an image"
    text += f" ({ratio('ms_step')})" if ratio("ms_step") else ""
    minutes = {label: found.get(label, "training_minutes") for label in found.labels}
    told = ", ".join(f"{label} {n:.1f}" for label, n in minutes.items() if n)
    cheaper = [
        label
        for label in found.labels[1:]
        if found.get(label, "ms_sample") >= found.get("INN", "ms_sample")
    ]
    text += f". Here its samples cost no more than those of the {', '.join(cheaper)}" * bool(
        cheaper
    )
    return text + "." + (f" Minutes of training that the cards state: {told}." if told else "")


def _code(found: Findings) -> str:
    n, k = found.get("INN", "latents"), found.get("INN", "kept")
    text = f"The latent of the INN has as many numbers as the image, {n}."
    if k < n:
        text += f" Its {k} largest alone give {found.get('INN', 'kept_psnr'):.1f} dB"
        if "VAE" in found.labels:
            text += (
                f", the {found.get('VAE', 'latents')} numbers of the VAE "
                f"{found.get('VAE', 'round_trip_psnr'):.1f} dB"
            )
        text += "."
    return text


def _samples(found: Findings) -> str:
    key = f"frechet_at_{found.settings.temperature:g}"
    order = sorted(found.labels, key=lambda label: found.get(label, key))
    ranks = ", ".join(f"{label} {found.get(label, key):.1f}" for label in order)
    return (
        f"Fréchet distance of {found.settings.draws} draws to {len(found.data.test)} test images at "
        f"temperature {found.settings.temperature:g}, from near to far: {ranks}. Two halves of the "
        f"test images are {found.frechet_floor:.1f} apart."
    )
