"""The sentences of the theory, each with its numbers and whether they bear it out here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..table import read_table
from .run import Findings

TABLE = read_table(__file__, "claims.toml")
_ROUNDING = 1e-3  # of pixels in [0, 1], after two passes through a deep network
_SCALE = {"parameters": 1e-3, "step_bytes": 1e-6, "step_bytes_reversible": 1e-6}


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
        say: what may be said of them, in words.
    """

    key: str
    kind: str
    title: str
    rows: tuple[Row, ...]
    say: dict[str, str]

    def verdict(self, found: Findings) -> str:
        """What the numbers say here."""
        known = vars(found.settings) | found.numbers
        said = _VERDICTS[self.key](found)
        return " ".join(self.say[key].format(**known | more) for key, more in said)


def claims(found: Findings) -> list[Claim]:
    """All claims, with the rows that make sense for these models."""
    sigma = found.contestants[0].sigma
    words = vars(found.settings) | {"sigma": sigma}

    def rows(entries: list[list[str]]) -> tuple[Row, ...]:
        made: dict[str, Row] = {}
        for measure, key, *form in entries:
            if sigma is not None or not key.startswith("noised_"):
                key = key.format(**words)
                made.setdefault(key, Row(measure.format(**words), key, *form))
        return tuple(made.values())

    return [Claim(**entry | {"rows": rows(entry["rows"])}) for entry in TABLE["claim"]]


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


# ---- verdicts: which sentences are said, with what ------------------------------------------------

Said = Iterable[tuple[str, dict[str, Any]]]


def _likelihood(found: Findings) -> Said:
    yield "exact", {}
    bound = found.get("VAE", "bits_per_dim")
    if bound is not None:
        yield "bound", {"gain": found.get("VAE", "elbo_bits_per_dim") - bound}
        if bound < found.get("INN", "bits_per_dim"):
            yield "better", {}
    if "Injective" in found.labels:
        yield "injective", {}
    if "GAN" in found.labels:
        yield "gan", {}


def _latent(found: Findings) -> Said:
    exact = found.get("INN", "round_trip_error") < _ROUNDING
    yield "exact", {"how": "the rounding of 32-bit numbers" if exact else "more than rounding"}
    if "Injective" in found.labels:
        yield "injective", {}
    if "VAE" in found.labels:
        yield "vae", {"percent": 100 * found.get("VAE", "latent_error")}
    if "GAN" in found.labels:
        yield "gan", {}


def _range(found: Findings) -> Said:
    yield "inn", {"other": found.data.other_name}
    pairs = [
        f"{label} {found.get(label, 'test_psnr'):.1f} and {found.get(label, 'other_psnr'):.1f}"
        for label in found.labels[1:]
    ]
    if pairs:
        yield "rest", {"pairs": ", ".join(pairs)}


def _memory(found: Findings) -> Said:
    if found.depth is None:
        yield "unknown", {}
        return
    first, *_, last = sorted(found.depth["store"])
    growth = {mode: by[last] / by[first] for mode, by in found.depth.items()}
    flat = "it is flat" if growth["reversible"] < 1.25 else "it is not flat here"
    yield "grows", {"first": first, "last": last, "flat": flat, **growth}


def _cost(found: Findings) -> Said:
    def ratio(key: str) -> str:
        inn, rest = found.get("INN", key), [(s, found.get(s, key)) for s in found.labels[1:]]
        told = ", ".join(f"{inn / n:.1f} times that of the {label}" for label, n in rest if n)
        return f" ({told})" if told else ""

    yield "times", {"sample": ratio("ms_sample"), "step": ratio("ms_step")}
    own = found.get("INN", "ms_sample")
    cheaper = [label for label in found.labels[1:] if found.get(label, "ms_sample") >= own]
    if cheaper:
        yield "cheaper", {"cheaper": ", ".join(cheaper)}
    minutes = [(label, found.get(label, "training_minutes")) for label in found.labels]
    if told := ", ".join(f"{label} {n:.1f}" for label, n in minutes if n):
        yield "minutes", {"minutes": told}


def _code(found: Findings) -> Said:
    yield "all", {}
    if found.get("INN", "kept") < found.get("INN", "latents"):
        n, psnr = found.get("VAE", "latents"), found.get("VAE", "round_trip_psnr")
        vae = f", the {n} numbers of the VAE {psnr:.1f} dB" if "VAE" in found.labels else ""
        yield "kept", {"vae": vae}
    if "Injective" in found.labels:
        yield "injective", {}


def _samples(found: Findings) -> Said:
    key = f"frechet_at_{found.settings.temperature:g}"
    order = sorted((found.get(label, key), label) for label in found.labels)
    ranks = ", ".join(f"{label} {distance:.1f}" for distance, label in order)
    yield "ranks", {"ranks": ranks, "tests": len(found.data.test), "floor": found.frechet_floor}


_VERDICTS: dict[str, Callable[[Findings], Said]] = {
    "likelihood": _likelihood,
    "latent": _latent,
    "range": _range,
    "memory": _memory,
    "cost": _cost,
    "code": _code,
    "samples": _samples,
}
