"""``innverse demo``: real photographs, damaged and reconstructed, beside total variation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..progress import Progress
from .entry import complain
from .options import Device, Json, Quiet, Seed, check_writable, load_model, print_json, start

if TYPE_CHECKING:
    from ..studies.demo import ErrorBar, Outcome

_GRAY, _COLOR = "natural-gray", "natural-color"


def demo(
    *,
    out: Path = Path("runs/demo"),
    prior: str | None = None,
    quick: bool = False,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Reconstruct photographs that ship with scikit-image; no network is needed.

    innverse demo --quick

    Four problems: half of the pixels missing, text and scratches, blur and noise, compressed
    sensing; and a cut-out with its error bar, sampled exactly. Writes report.html (one file),
    panel.png and results.json; interrupted (Ctrl-C), it writes them for what was solved.

    Parameters
    ----------
    out
        Folder for the results.
    prior
        Name or folder of a noise-conditional flow to use instead of the shipped ones.
    quick
        Half the size: seconds instead of a minute.
    """
    from ..studies.running import require_packages

    require_packages("the demo")
    check_writable(out)
    chosen = start(device)

    from ..studies.demo import PROBLEMS
    from ..studies.demo.page import make_table, verdict

    started = time.perf_counter()
    outcomes: list[Outcome] = []
    sampled: list[ErrorBar] = []
    try:
        used = _solve_all(outcomes, sampled, prior, chosen, seed, quick, quiet)
    except KeyboardInterrupt:
        if not outcomes:
            complain("interrupted before the first problem was solved: nothing was written")
            return 130
        used = [prior] if prior else [_GRAY, _COLOR]
    error_bar = sampled[0] if sampled else None
    results = _write(outcomes, error_bar, out, used)
    if json:
        print_json(results)
    else:
        make_table(outcomes).print()
        print(verdict(outcomes))
        if error_bar is not None:
            print(f"With an error bar: {error_bar.verdict()}")
        print(f"{out / 'report.html'}  ({time.perf_counter() - started:.0f} s)")
    if error_bar is None:
        complain(
            f"interrupted: {out} holds the {len(outcomes)} of {len(PROBLEMS)} problems that were "
            "solved, and no error bar"
        )
        return 130
    return 0


def _solve_all(
    outcomes: list[Outcome],
    sampled: list[ErrorBar],
    prior: str | None,
    device,
    seed: int,
    quick: bool,
    quiet: bool,
) -> list[str]:
    """Append one problem after the other to ``outcomes``, and the error bar to ``sampled``; returns
    the names of the priors."""
    from ..studies.demo import PROBLEMS, make_scene, run_scene, sample_cut_out

    parts, scale = len(PROBLEMS) + 1, 2 if quick else 1
    with Progress("demo", parts, quiet=quiet) as progress:
        gray, colour = _priors(prior, device)
        for k, problem in enumerate(PROBLEMS):
            progress.say(f"{k + 1}/{parts} {problem.name} ({problem.photograph})")
            flow = colour if problem.colour and colour is not None else gray or colour
            scene = make_scene(problem, flow.shape[0], seed, scale=scale)
            scene.physics, scene.y = scene.physics.to(device), scene.y.to(device)
            scene.truth = scene.truth.to(device)
            outcome = run_scene(scene, flow, progress.part(k, k + 1, problem.name))
            t, i = outcome.tv_score, outcome.inn_score
            progress.say(
                f"    TV {t.psnr:.2f} dB in {t.seconds:.1f} s, INN {i.psnr:.2f} dB in "
                f"{i.seconds:.1f} s"
            )
            outcomes.append(outcome)
        progress.say(f"{parts}/{parts} draws of the posterior of a cut-out")
        report = progress.part(parts - 1, parts, "error bar")
        flow = gray if gray is not None else colour
        sampled.append(sample_cut_out(flow, device, seed, scale, report))
        progress.say(f"    {sampled[0].verdict()}")
    return [prior] if prior else [_GRAY, *([_COLOR] if colour is not None else [])]


def _write(
    outcomes: list[Outcome], error_bar: ErrorBar | None, out: Path, priors: list[str]
) -> dict:
    """Results, panel and page of the problems that were solved; returns the results."""
    from ..data import atomic_path
    from ..studies.demo import make_page, make_panel, results_json
    from ..studies.running import command_line, write

    results = results_json(outcomes, error_bar)
    write(out, results, lambda: make_page(outcomes, priors, command_line(), error_bar))
    with atomic_path(out / "panel.png") as temporary:
        make_panel(outcomes).save(temporary, "PNG", optimize=True)
    return results


def _priors(name: str | None, device):
    """(gray flow or None, colour flow or None)."""
    from ..zoo import names

    if name is None:
        colour = load_model(_COLOR, device) if _COLOR in names() else None
        return load_model(_GRAY, device), colour
    flow = load_model(name, device)
    if flow.noise_range is None:
        raise UsageError(
            f"--prior {name}: the demo needs a noise-conditional flow, trained with "
            "noise = [low, high]"
        )
    if len(flow.shape) != 3 or flow.shape[0] not in (1, 3):
        raise UsageError(f"--prior {name}: the demo needs a flow of gray or colour images")
    return (flow, None) if flow.shape[0] == 1 else (None, flow)
