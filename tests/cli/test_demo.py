"""``innverse demo`` from end to end with a small untrained prior."""

from __future__ import annotations

import json

import PIL.Image
import pytest

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")


@pytest.fixture
def quickly(monkeypatch):
    """Few draws, for tests of something else."""
    from innverse.studies.demo import error_bar

    few = {"draws": 16, "chains": 2, "warmup": 2, "steps": 2}
    monkeypatch.setitem(error_bar.CUT_OUT, "options", few)


@pytest.mark.parametrize("prior", ["gray", pytest.param("color", marks=pytest.mark.slow)])
def test_quick_demo_writes_page_panel_and_results(run, models, photos, quickly, prior):
    code, out, err = run("demo", "--quick", "--prior", models / prior, "--json")
    assert code == 0
    folder = photos / "runs" / "demo"
    assert sorted(p.name for p in folder.iterdir()) == ["panel.png", "report.html", "results.json"]
    assert out == json.loads((folder / "results.json").read_text())
    assert len(out["problems"]) == 4
    for problem in out["problems"]:
        assert set(problem) == {"name", "degraded", "tv", "inn"}
        assert set(problem["inn"]) == {"psnr", "ssim", "seconds", "method"}
        # a fair rival: total variation repairs all of these
        assert problem["tv"]["psnr"] > problem["degraded"]["psnr"] + 3
    assert "1/5" in err and "5/5" in err
    bar = out["error_bar"]
    assert bar["method"] == "posterior" and bar["quantity"].startswith("u = x + ")
    assert 0 <= bar["coverage"]["u"]["90 %"] <= 1 and bar["ess_bulk"]["median"] > 0
    page = (folder / "report.html").read_text()
    assert page.count("<img") >= 4 * 6 and "<script" not in page and "http://" not in page
    # an untrained network loses, and the page says so
    assert "does NOT beat total variation" in page
    assert "visible in the photograph chelsea" in page  # what was tuned on what is shown
    assert "How sure is it?" in page and "holds the true u" in page and 'class="scale"' in page
    with PIL.Image.open(folder / "panel.png") as picture:
        assert picture.width > 4 * 256 and picture.height > 4 * 256


def test_a_prior_that_cannot_denoise_is_refused(run, models, photos):
    code, _, err = run("demo", "--quick", "--prior", models / "plain")
    assert code == 2 and "noise-conditional" in err


def test_the_same_seed_gives_the_same_numbers(run, models, photos, monkeypatch, quickly):
    from innverse.studies import demo

    made = demo.make_scene
    monkeypatch.setattr(demo, "make_scene", lambda *given, scale: made(*given, scale=4 * scale))

    def numbers(seed):
        _, out, _ = run(
            "demo", "--quick", "--prior", models / "gray", "--seed", seed, "--json", "-q"
        )
        numbers = [(p["degraded"], p["inn"]["psnr"]) for p in out["problems"]]
        return [*numbers, out["error_bar"]["std"]]

    first = numbers(1)
    assert first == numbers(1)
    assert first != numbers(2)


def test_an_interruption_while_drawing_leaves_the_problems(run, models, photos, monkeypatch):
    from innverse.studies import demo

    made = demo.make_scene
    monkeypatch.setattr(demo, "make_scene", lambda *given, scale: made(*given, scale=4 * scale))

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "sample_cut_out", interrupted)
    code, _, err = run("demo", "--quick", "--prior", models / "gray")
    assert code == 130 and "4 of 4 problems" in err and "no error bar" in err
    found = json.loads((photos / "runs" / "demo" / "results.json").read_text())
    assert not found["complete"] and len(found["problems"]) == 4 and "error_bar" not in found


@pytest.mark.parametrize("solved", [0, 2])
def test_an_interruption_leaves_what_was_solved(run, models, photos, monkeypatch, solved):
    from innverse.studies import demo

    whole, started = demo.run_scene, []

    def interrupted(*given):
        started.append(given)
        if len(started) > solved:
            raise KeyboardInterrupt  # as Ctrl-C does, in the middle of a problem
        return whole(*given)

    monkeypatch.setattr(demo, "run_scene", interrupted)
    code, _, err = run("demo", "--quick", "--prior", models / "gray")
    assert code == 130
    folder = photos / "runs" / "demo"
    if solved == 0:
        assert "nothing was written" in err and not folder.exists()
        return
    found = json.loads((folder / "results.json").read_text())
    assert not found["complete"] and len(found["problems"]) == solved
    page = (folder / "report.html").read_text()
    assert "2 of 4 problems" in page and "2 of 4 problems" in err
    assert (folder / "panel.png").is_file()
