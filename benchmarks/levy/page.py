"""The cells as a table."""

from __future__ import annotations

_ABOUT = """\
# Levy processes: the flow's posterior beside the exact one

Signals of 64 samples with independent increments, measured with noise of 25 dB; one flow for each law,
trained on draws. Gap: by how much the mean square error of the flow's posterior mean is above that of
the reference, a Gibbs sampler of the exact posterior, as a ratio of means over all signals, and as the
mean over signals of each one's ratio (as in arXiv 2509.12821); heavy tails leave the first to a few
signals. The reference's own error is what chance adds to its mean square error. Coverage: of sets of
highest posterior density that hold 90 %, by the flow's own density, and of central intervals of the
samples. Under Bernoulli-Laplace, which has an atom, the flow's draws and sets are those of the signal
plus noise half as strong as the measurement's, and the mean is that of the signal.

"""
_COLUMNS = (
    "increments",
    "operator",
    "gap, dB",
    "mean gap of a signal",
    "reference's error",
    "coverage, flow",
    "of intervals",
    "coverage, reference",
    "effective draws",
    "signals",
)


def page(cells: dict) -> str:
    """Markdown, one row for each "law/operator"."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    for key, cell in cells.items():
        law, operator = key.split("/")
        numbers = (
            f"{cell['gap_of_mean_mse_db']:.2f}",
            f"{cell['gap_mean_db']:.2f} ± {cell['gap_mean_db_se']:.2f}",
            f"{cell['reference_error_db']:.2f}",
            f"{cell['coverage']:.3f}",
            f"{cell['coverage_of_intervals']:.3f}",
            f"{cell['coverage_reference']:.3f}",
            f"{cell['effective_draws']:.0f}",
            str(cell["signals"]),
        )
        lines.append(f"| {law} | {operator} | {' | '.join(numbers)} |")
    return _ABOUT + "\n".join(lines) + "\n"
