"""``innverse demo``: real photographs, damaged and reconstructed, beside total variation."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from ..errors import InnverseError, UsageError
from .options import Device, Json, Quiet, Seed, check_writable, load_model, note, print_json, start
from .progress import progress_bar

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

    Four problems: half of the pixels missing, text and scratches, blur and noise, compressed
    sensing. Writes report.html (one file), panel.png and results.json.

    Parameters
    ----------
    out
        Folder for the results.
    prior
        Name or folder of a noise-conditional flow to use instead of the shipped ones.
    quick
        Half the size and a few steps: seconds instead of a minute, and worse pictures.
    """
    _require_extras()
    check_writable(out)
    chosen = start(device)

    from ..data import atomic_path, write_json
    from ..demo import PROBLEMS, make_page, make_panel, make_scene, results_json, run_scene
    from ..demo.page import make_table, verdict

    begun = time.perf_counter()
    gray, colour = _priors(prior, chosen)
    outcomes = []
    for k, problem in enumerate(PROBLEMS, 1):
        flow = colour if problem.colour and colour is not None else gray or colour
        scene = make_scene(problem, flow.shape[0], seed, scale=2 if quick else 1)
        scene.physics, scene.y = scene.physics.to(chosen), scene.y.to(chosen)
        scene.truth = scene.truth.to(chosen)
        note(f"{k}/{len(PROBLEMS)} {problem.name} ({problem.photograph})", quiet)
        with progress_bar(problem.name, quiet) as progress:
            outcome = run_scene(scene, flow, progress, steps=8 if quick else None)
        t, i = outcome.tv_score, outcome.inn_score
        note(
            f"    TV {t.psnr:.2f} dB in {t.seconds:.1f} s, INN {i.psnr:.2f} dB in "
            f"{i.seconds:.1f} s",
            quiet,
        )
        outcomes.append(outcome)

    results = results_json(outcomes)
    write_json(out / "results.json", results)
    with atomic_path(out / "panel.png") as temporary:
        make_panel(outcomes).save(temporary, "PNG", optimize=True)
    used = [prior] if prior else [_GRAY, *([_COLOR] if colour is not None else [])]
    page = make_page(outcomes, used, shlex.join(["innverse", *sys.argv[1:]]))
    page.save(out / "report.html")
    if json:
        print_json(results)
    else:
        make_table(outcomes).print()
        print(verdict(outcomes))
        print(f"{out / 'report.html'}  ({time.perf_counter() - begun:.0f} s)")
    return 0


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


def _require_extras() -> None:
    """Before a minute of computing, not after it."""
    from importlib.util import find_spec

    for module, package in (("skimage", "scikit-image"), ("matplotlib", "matplotlib")):
        if find_spec(module) is None:
            raise InnverseError(f'the demo needs {package}: pip install "innverse[demo]"')
