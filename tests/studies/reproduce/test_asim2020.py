"""The study on a small scale: what is planned, kept, resumed and shown."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from innverse import flows
from innverse.bijections import initialize
from innverse.cli import main
from innverse.errors import InputError
from innverse.solvers import solve
from innverse.studies.reproduce import cells, figures, pictures, problems, protocol
from innverse.studies.reproduce.results import Results

EFFORT = dict.fromkeys(("flow", "gan", "deep_decoder"), 0.01)
SCALE = protocol.Scale(
    images=3,
    batch=2,
    effort=EFFORT,
    settings={"compressed_sensing": 2, "inpainting": 1},
    sets=("celebahq", "photographs"),
)


@pytest.fixture(scope="module")
def flow():
    torch.manual_seed(0)
    made = flows.build("glow", (3, 64, 64), levels=1, steps=1, hidden=4, noise=(0.01, 0.4))
    initialize(made, torch.rand(4, 3, 64, 64), 0.1)
    for p in made.parameters():
        p.requires_grad_(False)
    return made.eval()


@pytest.fixture
def small(monkeypatch):
    """Few measurements, and few methods."""
    experiment = protocol.EXPERIMENTS["compressed_sensing"]
    kept = {name: experiment.methods[name] for name in ("flow", "lasso_dct", "gan", "deep_decoder")}
    few = replace(experiment, settings=("0.008", "0.02"), methods=kept)
    monkeypatch.setitem(protocol.EXPERIMENTS, "compressed_sensing", few)
    inpainting = protocol.EXPERIMENTS["inpainting"]
    monkeypatch.setitem(
        protocol.EXPERIMENTS,
        "inpainting",
        replace(inpainting, methods={n: inpainting.methods[n] for n in ("flow_pnp", "tv")}),
    )
    monkeypatch.setitem(protocol.SCALES, "quick", SCALE)


def test_packaged_pictures_are_named_for_what_they_are():
    sets = pictures.picture_sets(None, 3)
    assert {"celebahq", "inverted", "rotated", "photographs", "digits"} == set(sets)
    for found in sets.values():
        assert found.x.shape == (3, *pictures.SHAPE) and len(found.names) == 3
        assert found.x.min() >= 0 and found.x.max() <= 1
    assert "standing in" in sets["celebahq"].about
    assert torch.equal(sets["rotated"].x.flip(-1, -2), sets["celebahq"].x)


def test_pictures_of_the_user(tmp_path):
    from innverse.data import write_image

    for name in ("ffhq/a.png", "ffhq/b.png", "birds12/c.png"):
        write_image(tmp_path / name, torch.rand(3, 128, 100))
    sets = pictures.picture_sets(str(tmp_path), 1)
    assert list(sets)[:2] == ["ffhq", "birds"] and sets["ffhq"].names == ("ffhq/a.png",)
    sets = pictures.picture_sets(str(tmp_path / "ffhq"), 9)
    assert len(sets["images"].names) == 2
    with pytest.raises(InputError, match="no such file"):
        pictures.picture_sets(str(tmp_path / "none"), 1)


@pytest.mark.parametrize(
    ("family", "setting"),
    [(key, setting) for key, e in protocol.EXPERIMENTS.items() for setting in e.settings
     if key in problems.FAMILIES and setting != "1" and setting != "0.41"],
)  # fmt: skip
def test_every_setting_measures_with_noise_of_the_stated_length(family, setting):
    x = torch.rand(1, *pictures.SHAPE, generator=torch.Generator().manual_seed(0))
    physics = problems.FAMILIES[family](setting, 0)
    y = physics(x, torch.Generator().manual_seed(1))
    length = float((y - physics.A(x)).norm())
    expected = float(setting) * problems.N**0.5 if family == "denoising" else problems.NOISE
    assert length == pytest.approx(expected, rel=0.25)


def test_masks_hide_what_they_say():
    hidden = {s: 1 - float(problems.inpainting(s, 0).mask.mean()) for s in problems._MASKS}
    assert hidden["centre"] == pytest.approx(0.3, abs=0.01)
    assert hidden["random"] == 0.5 and 0.3 <= hidden["scribbles"] < 0.4


def test_the_plan_is_the_table_and_leaves_out_what_has_no_prior(small):
    sets = pictures.picture_sets(None, 3)
    plan = list(cells.plan(SCALE, sets, {"flow"}))
    # 2 sets in 2 batches; 2 settings by 3 methods (no GAN), 1 setting by 2 methods
    assert len(plan) == 2 * 2 * (2 * 3 + 2)
    assert len({cell.file(Path()) for cell in plan}) == len(plan)
    assert {(c.first, c.last) for c in plan} == {(0, 2), (2, 3)}
    assert not any(cell.name == "gan" for cell in plan)


def test_noise_belongs_to_the_picture_not_to_the_batch():
    x = torch.rand(3, *pictures.SHAPE)
    _, y = cells.measurement("denoising", "0.1", x)
    _, last = cells.measurement("denoising", "0.1", x[2:], first=2)
    assert torch.equal(y[2:], last)


def test_a_cell_is_run_once_and_again_when_its_settings_change(small, flow, tmp_path, monkeypatch):
    sets = pictures.picture_sets(None, 3)
    cell = next(cells.plan(SCALE, sets, {"flow"}))
    calls = []
    monkeypatch.setattr(cells, "solve", lambda *a, **k: calls.append(k) or solve(*a, **k))
    run = [
        cells.run_cell(cell, sets[cell.set], {"flow": flow}, tmp_path, effort)
        for effort in (EFFORT, EFFORT, EFFORT | {"flow": 0.02})
    ]
    assert len(calls) == 2 and run[0] == run[1] != run[2]
    assert len(run[0]["psnr"]) == 2 and run[0]["images"] == ["astronaut", "lfw_subset/000"]
    file = cell.file(tmp_path)
    file.write_text(file.read_text()[:50])  # as if cut off
    again = cells.run_cell(cell, sets[cell.set], {"flow": flow}, tmp_path, EFFORT | {"flow": 0.02})
    assert again | {"seconds": 0} == run[2] | {"seconds": 0}


def test_the_command_writes_everything_and_continues(small, flow, tmp_path, capsys, monkeypatch):
    flow.save_pretrained(tmp_path / "prior")
    monkeypatch.setitem(protocol.PRIORS, "gan", "no-such-gan")
    command = ["reproduce", "asim2020", "--quick", "--prior", str(tmp_path / "prior"), "--json"]
    command += ["--out", str(tmp_path / "out")]
    assert main(command) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert set(summary["compressed_sensing"]) == {"celebahq", "photographs"}
    assert set(summary["compressed_sensing"]["celebahq"]) == {"0.008", "0.02"}
    row = summary["compressed_sensing"]["celebahq"]["0.02"]
    assert set(row) == {"flow", "lasso_dct", "deep_decoder"} and all(
        5 < v < 60 for v in row.values()
    )
    assert "no-such-gan" in summary["missing"] and "no-such-gan" in err
    page = (tmp_path / "out" / "report.html").read_text()
    for words in ("standing in for CelebA-HQ", "PSNR against m", "Inpainting", "Again"):
        assert words in page, words
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert len(rows) == 2 * 3 * (2 * 3 + 2) and float(rows[0]["psnr"]) > 0
    times = {f: f.stat().st_mtime_ns for f in (tmp_path / "out" / "cells").rglob("*.json")}
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == summary
    assert times == {f: f.stat().st_mtime_ns for f in (tmp_path / "out" / "cells").rglob("*.json")}
    assert main([*command, "--full"]) == 2
    capsys.readouterr()
    assert main([*command, "--only", "denoising/*"]) == 2
    assert "celebahq/flow" in capsys.readouterr().err  # an example of a name that there is


def test_only_what_is_asked_for_is_computed_beside_what_is_there(small, flow, tmp_path, capsys):
    flow.save_pretrained(tmp_path / "prior")
    command = ["reproduce", "asim2020", "--quick", "--prior", str(tmp_path / "prior"), "--json"]
    command += ["--out", str(tmp_path / "out")]
    assert main([*command[:-3], *command[-2:], "--only", "*/celebahq/lasso_*"]) == 0
    assert "Lasso" in capsys.readouterr().out  # the tables that there are
    assert main([*command, "--only", "inpainting/*/photographs/tv"]) == 0
    summary = json.loads(capsys.readouterr().out)
    found = summary["compressed_sensing"]
    assert set(found) == {"celebahq"} and set(found["celebahq"]["0.02"]) == {"lasso_dct"}
    assert set(summary["inpainting"]["photographs"]["centre"]) == {"tv"}


def test_tables_say_how_many_pictures_each_method_solved(tmp_path):
    results, methods = Results(tmp_path), protocol.METHODS
    found = (("tv", "0.41", [9]), ("flow", "0.2", [30, 32]), ("tv", "0.2", [20]))
    for name, setting, psnr in found:
        cell = cells.Cell("compressed_sensing", setting, "ffhq", name, methods[name], 0, 2)
        results.add(cell, {"psnr": psnr})
    rows = figures.table(results, "compressed_sensing", {"ffhq": "faces"}).rows
    assert [row[1:5] for row in rows] == [("0.2", "1 to 2", 20, 31), ("0.41", 1, 9, None)]
    assert figures.psnr_against_m(results, "ffhq") is not None
    del results.cells["compressed_sensing", "0.41", "ffhq", "tv"]
    assert figures.psnr_against_m(results, "ffhq") is None  # one place is no curve


def test_tables_of_the_ablations(tmp_path):
    results = Results(tmp_path)
    for key in ("start_and_gamma", "z0_norm", "evaluations"):
        experiment = protocol.EXPERIMENTS[key]
        for k, (name, method) in enumerate(experiment.methods.items()):
            cell = cells.Cell(key, experiment.settings[0], "celebahq", name, method, 0, 2)
            found = {
                "psnr": [20.0 + k, 22.0 + k],
                "z_norm": [0.5, 0.7],
                "evaluations": [10 * k] * 2,
            }
            results.add(
                cell, found | {"images": ["a", "b"], "status": ["converged", "failed: NaN"]}
            )
    table = figures.start_and_gamma(results, "start_and_gamma")
    assert [row[0] for row in table.rows] == protocol.TABLE["start_and_gamma"]["each"]["start"]
    assert table.rows[0][1] == "21.00  (0.60)" and table.rows[1][1] == "25.00  (0.60)"
    axes = figures.z0_norm(results).axes[0]
    assert axes.lines[0].get_xdata().tolist() == protocol.TABLE["z0_norm"]["each"]["radius"]
    labels = [text.get_text() for text in figures.evaluations(results).axes[0].get_legend().texts]
    assert labels == ["flow, L-BFGS", "flow, MAP", "flow, Adam"]
    assert len(results.failures()) == sum(
        len(protocol.EXPERIMENTS[k].methods) for k in ("start_and_gamma", "z0_norm", "evaluations")
    )


def test_tuned_options_are_in_the_grids():
    for family, settings in protocol.tuned().items():
        experiment = protocol.EXPERIMENTS[family]
        for setting, methods in settings.items():
            assert setting in experiment.settings
            for name, chosen in methods.items():
                assert chosen in [dict(entry) for entry in experiment.methods[name].grid]
